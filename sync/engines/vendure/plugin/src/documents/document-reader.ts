/**
 * Reads the state of many customers and orders at once, as of one moment.
 *
 * One REPEATABLE READ transaction on the primary: a document never mixes two states. A table is read once for
 * the whole batch, not once for each entity.
 */
import { Injectable } from '@nestjs/common';
import { ChannelService, ConfigService, Customer, Order, TransactionalConnection } from '@vendure/core';
import { EntityManager, In } from 'typeorm';
import { DeliveryStageChange } from '../delivery-status/delivery-stage-change.entity';
import { CUSTOMER_RELATIONS, customerDocument } from './customer-document';
import { DocumentContext, Json } from './document-context';
import { OrderHistoryEntry, STATE_TRANSITION } from './history-entry';
import { ORDER_RELATIONS, orderDocument } from './order-document';

/** What became of an entity: its document, `gone`, `unsent` (a cart or a draft), or why it cannot be told. */
export type State = Json | 'gone' | 'unsent' | Error;

export interface Wanted {
  customers: string[];
  orders: string[];
}

export interface States {
  context: DocumentContext;
  customers: ReadonlyMap<string, State>;
  orders: ReadonlyMap<string, State>;
}

/** One moment of the database. */
export interface Snapshot {
  context: DocumentContext;
  manager: EntityManager;
  /** The state of every wanted entity by its raw id; one that is not in the database is missing from the map. */
  read(wanted: Wanted): Promise<States>;
}

@Injectable()
export class DocumentReader {
  constructor(
    private readonly connection: TransactionalConnection,
    private readonly config: ConfigService,
    private readonly channels: ChannelService,
  ) {}

  read(wanted: Wanted): Promise<States> {
    return this.inSnapshot((snapshot) => snapshot.read(wanted));
  }

  /** Let several readings see the same moment. */
  async inSnapshot<T>(work: (snapshot: Snapshot) => Promise<T>): Promise<T> {
    const { defaultLanguageCode } = await this.channels.getDefaultChannel();
    const context = new DocumentContext(this.config, defaultLanguageCode);
    const runner = this.connection.rawConnection.createQueryRunner('master');
    try {
      return await runner.manager.transaction('REPEATABLE READ', (manager) =>
        work({ context, manager, read: (wanted) => readStates(manager, context, wanted) }),
      );
    } finally {
      await runner.release();
    }
  }
}

async function readStates(manager: EntityManager, context: DocumentContext, { customers, orders }: Wanted) {
  return {
    context,
    customers: await readCustomers(manager, context, customers),
    orders: await readOrders(manager, context, orders),
  };
}

async function readCustomers(manager: EntityManager, context: DocumentContext, ids: string[]) {
  const rows = await load(manager, Customer, ids, CUSTOMER_RELATIONS);
  return new Map<string, State>(
    rows.map((row) => [String(row.id), row.deletedAt ? 'gone' : told(() => customerDocument(context, row))]),
  );
}

/** A document, or why there is none: one row that is not as Vendure leaves it must not hide the others. */
function told(document: () => Json): Json | Error {
  try {
    return document();
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

async function readOrders(manager: EntityManager, context: DocumentContext, ids: string[]) {
  const states = new Map<string, State>();
  const placed: string[] = [];
  for (const { id, orderPlacedAt } of await findHeads(manager, ids)) {
    states.set(String(id), 'unsent');
    placed.push(...(orderPlacedAt ? [String(id)] : []));
  }
  const stages = await readStages(manager, placed);
  const transitions = await readTransitions(manager, placed);
  const sellerOrders = await readSellerOrders(manager, placed);
  for (const order of await load(manager, Order, placed, ORDER_RELATIONS)) {
    const id = String(order.id);
    const extras = {
      stages: stages.get(id) ?? [],
      transitions: transitions.get(id) ?? [],
      sellerOrders: sellerOrders.get(id) ?? [],
    };
    states.set(
      id,
      told(() => orderDocument(context, order, extras)),
    );
  }
  return states;
}

function findHeads(manager: EntityManager, ids: string[]): Promise<Order[]> {
  return manager.find(Order, { where: { id: In(ids) }, select: { id: true, orderPlacedAt: true } });
}

async function readSellerOrders(manager: EntityManager, ids: string[]) {
  const select = { id: true, aggregateOrderId: true } as const;
  const rows = await manager.find(Order, {
    where: { aggregateOrderId: In(ids) },
    select,
    order: { id: 'ASC' },
  });
  return groupBy(rows, ({ aggregateOrderId }) => String(aggregateOrderId));
}

async function readStages(manager: EntityManager, ids: string[]) {
  if (!manager.connection.hasMetadata(DeliveryStageChange)) {
    return new Map<string, DeliveryStageChange[]>();
  }
  const order = { changedAt: 'ASC', id: 'ASC' } as const;
  const rows = await manager.find(DeliveryStageChange, { where: { orderId: In(ids) }, order });
  return groupBy(rows, ({ orderId }) => String(orderId));
}

async function readTransitions(manager: EntityManager, ids: string[]) {
  if (ids.length === 0) {
    return new Map<string, OrderHistoryEntry[]>();
  }
  const rows = await manager.find(OrderHistoryEntry, {
    where: { order: { id: In(ids) }, type: STATE_TRANSITION },
    relations: { order: true },
    select: { id: true, type: true, createdAt: true, data: true, order: { id: true } },
    order: { createdAt: 'ASC', id: 'ASC' },
    loadEagerRelations: false,
  });
  return groupBy(rows, ({ order }) => String(order.id));
}

function groupBy<Row>(rows: Row[], key: (row: Row) => string): Map<string, Row[]> {
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    groups.set(key(row), [...(groups.get(key(row)) ?? []), row]);
  }
  return groups;
}

async function load<Row extends Customer | Order>(
  manager: EntityManager,
  entity: new () => Row,
  ids: string[],
  relations: object,
): Promise<Row[]> {
  if (ids.length === 0) {
    return [];
  }
  const where = { id: In(ids) } as never;
  return manager.find(entity, { where, relations, relationLoadStrategy: 'query' });
}
