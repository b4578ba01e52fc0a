/**
 * Which rows make up a customer or an order, and whose they are.
 *
 * A row is looked up when its transaction is about to commit: a payment or a fulfilment is inserted first and
 * linked to its order later.
 */
import {
  Address,
  Customer,
  CustomerGroup,
  Fulfillment,
  ID,
  Order,
  OrderLine,
  Payment,
  Refund,
  ShippingLine,
  Surcharge,
  Type,
  User,
  VendureEntity,
} from '@vendure/core';
import { EntityManager, FindOptionsRelations, FindOptionsSelect, In } from 'typeorm';
import { OrderHistoryEntry, STATE_TRANSITION } from '../documents/history-entry';
import type { EntityKind } from './change-note.entity';

/** Whose a kind of row is: which customers or orders change when it does. */
export interface Part {
  name: string;
  kind: EntityKind;
  owners(manager: EntityManager, ids: ID[]): Promise<ID[]>;
}

type Owner = { id: ID } | null | undefined;

function part<Row extends VendureEntity>(
  kind: EntityKind,
  row: Type<Row>,
  relations: FindOptionsRelations<Row>,
  select: FindOptionsSelect<Row>,
  ownersOf: (row: Row) => Owner[],
): Part {
  async function owners(manager: EntityManager, ids: ID[]): Promise<ID[]> {
    const where = { id: In(ids) } as never;
    const rows = await manager.find(row, { where, relations, select, loadEagerRelations: false });
    return rows.flatMap(ownersOf).flatMap((owner) => (owner ? [owner.id] : []));
  }
  return { name: row.name, kind, owners };
}

async function customersOfUsers(manager: EntityManager, ids: ID[]): Promise<ID[]> {
  const where = { user: { id: In(ids) } };
  const rows = await manager.find(Customer, { where, select: { id: true }, loadEagerRelations: false });
  return rows.map(({ id }) => id);
}

async function ordersOfTransitions(manager: EntityManager, ids: ID[]): Promise<ID[]> {
  const where = { id: In(ids), type: STATE_TRANSITION };
  const select = { id: true, order: { id: true } } as const;
  const rows = await manager.find(OrderHistoryEntry, {
    where,
    relations: { order: true },
    select,
    loadEagerRelations: false,
  });
  return rows.flatMap((row) => (row.order ? [row.order.id] : []));
}

const itself = async (_manager: EntityManager, ids: ID[]): Promise<ID[]> => ids;
const order = { id: true, order: { id: true } } as const;
const customer = { id: true, customer: { id: true } } as const;

export const CUSTOMER: Part = { name: 'Customer', kind: 'customer', owners: itself };
export const ORDER: Part = { name: 'Order', kind: 'order', owners: itself };

/** The customer of an order: sent too when the order is placed. */
export const BUYER: Part = {
  ...part('customer', Order, { customer: true }, customer, (row) => [row.customer]),
  name: 'Buyer',
};

/** Every table that a document is made of. */
export const PARTS: ReadonlyMap<unknown, Part> = new Map<unknown, Part>([
  [Customer, CUSTOMER],
  [Address, part('customer', Address, { customer: true }, customer, (row) => [row.customer])],
  [
    CustomerGroup,
    part(
      'customer',
      CustomerGroup,
      { customers: true },
      { id: true, customers: { id: true } },
      (row) => row.customers,
    ),
  ],
  [User, { name: 'User', kind: 'customer', owners: customersOfUsers }],
  [Order, ORDER],
  [OrderHistoryEntry, { name: 'OrderHistoryEntry', kind: 'order', owners: ordersOfTransitions }],
  [OrderLine, part('order', OrderLine, { order: true }, order, (row) => [row.order])],
  [ShippingLine, part('order', ShippingLine, { order: true }, order, (row) => [row.order])],
  [Surcharge, part('order', Surcharge, { order: true }, order, (row) => [row.order])],
  [Payment, part('order', Payment, { order: true }, order, (row) => [row.order])],
  [
    Refund,
    part('order', Refund, { payment: { order: true } }, { id: true, payment: order }, (row) => [
      row.payment?.order,
    ]),
  ],
  [
    Fulfillment,
    part('order', Fulfillment, { orders: true }, { id: true, orders: { id: true } }, (row) => row.orders),
  ],
]);
