/**
 * What is mirrored, as conditions on rows: customers that are not deleted; placed orders, but not a seller's part of
 * one, whose lines stand in the aggregate order already.
 */
import { Customer, ID, Order } from '@vendure/core';
import {
  And,
  EntityManager,
  FindOptionsWhere,
  IsNull,
  LessThanOrEqual,
  MoreThan,
  MoreThanOrEqual,
  Not,
} from 'typeorm';
import type { EntityKind } from '../notes/change-note.entity';

/** Ids after one and up to another. */
export interface Range {
  after?: ID;
  upTo?: ID;
}

type Row = Customer | Order;

const ROWS: Record<EntityKind, new () => Row> = { customer: Customer, order: Order };

const TIMES: Record<EntityKind, string[]> = {
  customer: ['createdAt', 'updatedAt'],
  order: ['createdAt', 'updatedAt', 'orderPlacedAt'],
};

const CONDITIONS: Record<EntityKind, object> = {
  customer: { deletedAt: IsNull() },
  order: { orderPlacedAt: Not(IsNull()), type: Not('Seller'), aggregateOrderId: IsNull() },
};

/** How many rows there are in a range; with `since`, of those that were placed, made or touched after that. */
export function count(manager: EntityManager, kind: EntityKind, range: Range, since?: Date): Promise<number> {
  return manager.count(ROWS[kind], { where: where(kind, range, since), loadEagerRelations: false });
}

/** The first `limit` ids of a range, ascending. */
export async function listIds(
  manager: EntityManager,
  kind: EntityKind,
  range: Range,
  limit: number,
  since?: Date,
): Promise<ID[]> {
  const rows = await manager.find<Row>(ROWS[kind], {
    where: where(kind, range, since),
    select: { id: true },
    order: { id: 'ASC' },
    take: limit,
    loadEagerRelations: false,
  });
  return rows.map(({ id }) => id);
}

function where(kind: EntityKind, { after, upTo }: Range, since?: Date): FindOptionsWhere<Row>[] {
  const bounds = [
    ...(after === undefined ? [] : [MoreThan(after)]),
    ...(upTo === undefined ? [] : [LessThanOrEqual(upTo)]),
  ];
  const condition = { ...CONDITIONS[kind], ...(bounds.length > 0 && { id: And(...bounds) }) };
  return since ? TIMES[kind].map((time) => ({ ...condition, [time]: MoreThanOrEqual(since) })) : [condition];
}
