/**
 * How many changes a second travel from the outbox to a receiver that does nothing but check the signature, and how
 * many entities a second the Admin API sweeps, and gives in whole.
 *
 * Orders are copies of one real order (two lines, a payment, a fulfilment, a stage change); customers are copies
 * of its customer. Shop, worker, Postgres and receiver share the machine.
 */
import { availableParallelism } from 'node:os';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MirroredShop } from '../test/support/mirrored-shop';
import { eventually } from '../test/support/receiver';
import { adminDoes, newEmail, placeOrder } from '../test/support/story';

const COUNT = 3000;
const FIRST = 1_000_000;
let mirror: MirroredShop;

beforeAll(async () => {
  mirror = await (await MirroredShop.create()).open('server');
  const id = await placeOrder(mirror.shop);
  await adminDoes(mirror.admin, 'setOrderCustomFields', 'UpdateOrderInput!', {
    id,
    customFields: { deliveryStage: 'SOURCING' },
  });
  await fulfil(id);
  await copy('customer', '', { emailAddress: `c."emailAddress" || n` });
  await copy('"order"', '', { code: 'c.code || n', customerId: `${FIRST} + n` });
  for (const part of ['order_line', 'payment', 'shipping_line', 'delivery_stage_change']) {
    await copy(part, ` * 10 + c.id`, { orderId: `${FIRST} + n` });
  }
  await mirror.shop.sql(`insert into order_fulfillments_fulfillment ("orderId", "fulfillmentId")
    select ${FIRST} + n, "fulfillmentId" from order_fulfillments_fulfillment, generate_series(1, ${COUNT}) n`);
  await mirror.shop.sql('delete from customer_sync_note');
  await mirror.shop.sql('analyze');
  await mirror.shop.start('worker');
}, 300_000);
afterAll(() => mirror.close());

async function fulfil(id: string): Promise<void> {
  const { order } = await mirror.admin.run('query ($id: ID!) { order(id: $id) { lines { id quantity } } }', {
    id,
  });
  await adminDoes(mirror.admin, 'addFulfillmentToOrder', 'FulfillOrderInput!', {
    lines: order.lines.map((line: { id: string; quantity: number }) => ({
      orderLineId: line.id,
      quantity: line.quantity,
    })),
    handler: { code: 'manual-fulfillment', arguments: [{ name: 'method', value: 'Courier' }] },
  });
}

async function copy(table: string, idRest: string, changes: Record<string, string>): Promise<void> {
  const pairs = Object.entries(changes).flatMap(([column, value]) => [`'${column}'`, value]);
  await mirror.shop.sql(`insert into ${table} select (jsonb_populate_record(c,
    jsonb_build_object('id', (${FIRST} + n)${idRest}, ${pairs.join(', ')}))).*
    from ${table} c, generate_series(1, ${COUNT}) n where c.id < ${FIRST}`);
}

test.each(['order', 'customer'])(
  '%s changes a second',
  async (kind) => {
    const before = mirror.receiver.events.length;
    const bytes = () => JSON.stringify(mirror.receiver.events.at(-1)).length;
    await mirror.shop.sql(
      `insert into customer_sync_note (kind, "entityId") select $1, ${FIRST} + n from generate_series(1, ${COUNT}) n`,
      [kind],
    );
    const start = performance.now();
    await eventually(() => expect(mirror.receiver.events.length - before).toBe(COUNT), 300);
    await eventually(
      async () => expect(await mirror.shop.sql('select 1 from customer_sync_note')).toEqual([]),
      300,
    );
    const perSecond = Math.round(COUNT / ((performance.now() - start) / 1000));
    console.log(
      `${kind}: ${perSecond} changes/s, ${bytes()} bytes each, ${availableParallelism()} cores shared`,
    );
    expect(
      new Set(mirror.receiver.events.map(({ entityId, type }) => type + entityId)).size,
    ).toBeGreaterThanOrEqual(COUNT);
  },
  400_000,
);

const ENTITIES = { order: 'ORDER', customer: 'CUSTOMER' } as const;

async function sweepAll(kind: keyof typeof ENTITIES, limit: number): Promise<string[]> {
  const query = `query ($entity: MirrorEntity!, $position: String, $limit: Int!) {
    mirrorSweep(entity: $entity, position: $position, limit: $limit) { position fingerprints { id hash } } }`;
  const ids: string[] = [];
  let position: string | null = null;
  do {
    const answer = await mirror.admin.run(query, { entity: ENTITIES[kind], position, limit });
    ids.push(...answer.mirrorSweep.fingerprints.map(({ id }: { id: string }) => id));
    position = answer.mirrorSweep.position;
  } while (position !== null);
  return ids;
}

/** Fetch pages in four lanes, as the mirror does. */
async function fetchAll(kind: keyof typeof ENTITIES, ids: string[], size: number): Promise<number> {
  const query =
    'query ($entity: MirrorEntity!, $ids: [ID!]!) { mirrorDocuments(entity: $entity, ids: $ids) }';
  const pages = Array.from({ length: Math.ceil(ids.length / size) }, (_, n) =>
    ids.slice(n * size, (n + 1) * size),
  );
  let fetched = 0;
  const lane = async () => {
    for (let page = pages.shift(); page; page = pages.shift()) {
      const answer = await mirror.admin.run(query, { entity: ENTITIES[kind], ids: page });
      fetched += answer.mirrorDocuments.length;
    }
  };
  await Promise.all([lane(), lane(), lane(), lane()]);
  return fetched;
}

test.each(['order', 'customer'] as const)(
  '%s fingerprints and documents a second',
  async (kind) => {
    await sweepAll(kind, 500);
    const start = performance.now();
    const ids = await sweepAll(kind, 500);
    const swept = performance.now();
    expect(await fetchAll(kind, ids, 100)).toBe(ids.length);
    const fetched = performance.now();
    const rate = (from: number, to: number) => Math.round(ids.length / ((to - from) / 1000));
    console.log(
      `${kind}: ${rate(start, swept)} fingerprints/s, ${rate(swept, fetched)} documents/s, of ${ids.length}`,
    );
    expect(ids.length).toBeGreaterThan(COUNT);
  },
  400_000,
);

test('time from the answer of a mutation to the arrival of its change', async () => {
  const times: number[] = [];
  for (let n = 0; n < 50; n += 1) {
    const emailAddress = newEmail();
    await adminDoes(mirror.admin, 'createCustomer', 'CreateCustomerInput!', {
      emailAddress,
      firstName: 'A',
      lastName: 'B',
    });
    const start = performance.now();
    await eventually(() => expect(mirror.receiver.events.at(-1)?.data?.emailAddress).toBe(emailAddress));
    times.push(performance.now() - start);
  }
  times.sort((one, other) => one - other);
  console.log(
    `arrival: median ${times[25]?.toFixed(0)} ms, slowest ${times[49]?.toFixed(0)} ms, intervalMs 20`,
  );
  expect(times).toHaveLength(50);
});
