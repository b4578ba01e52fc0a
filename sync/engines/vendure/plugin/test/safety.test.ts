/**
 * What the plugins must never do to the shop, and never let out of it.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MirroredShop } from './support/mirrored-shop';
import { eventually } from './support/receiver';
import type { Client, Shop } from './support/shop';
import { addToCart, adminDoes, newCustomer, placeOrder } from './support/story';

const PRIVATE_FIELDS = `query ($id: ID!, $orderId: ID!) {
  customer(id: $id) { customFields { phoneVerified marketingConsent } }
  order(id: $orderId) { customFields { deliveryStage trackingNumber } } }`;

describe('The plugins', () => {
  let mirror: MirroredShop;
  let shop: Shop;
  let admin: Client;

  beforeAll(async () => {
    mirror = await (await MirroredShop.create()).open('server', 'worker');
    ({ shop, admin } = mirror);
  });
  afterAll(() => mirror.close());

  const setStage = (id: string, deliveryStage: string, trackingNumber?: string) =>
    adminDoes(admin, 'setOrderCustomFields', 'UpdateOrderInput!', {
      id,
      customFields: { deliveryStage, trackingNumber },
    });

  test('never fail a mutation whose note cannot be written, and say so', async () => {
    await shop.sql('alter table customer_sync_note rename to away');
    const id = await placeOrder(shop);
    await shop.sql('alter table away rename to customer_sync_note');
    expect(shop.log).toMatch(
      /Could not write down a change of .*customer_sync_note.*the next one of the same/,
    );
    await setStage(id, 'SOURCING');
    await mirror.converged('order', id);
  });

  test('never fail a mutation whose stage change cannot be written, and say so', async () => {
    const id = await placeOrder(shop);
    await shop.sql('alter table delivery_stage_change rename to away');
    await setStage(id, 'SOURCING');
    await shop.sql('alter table away rename to delivery_stage_change');
    await eventually(() =>
      expect(shop.log).toMatch(/Could not write down a change of order \d+.*its history lacks/),
    );
    const { order } = await admin.run(
      'query ($id: ID!) { order(id: $id) { customFields { deliveryStage } } }',
      { id },
    );
    expect(order.customFields.deliveryStage).toBe('SOURCING');
  });

  test('note nothing of a transaction that is rolled back', async () => {
    await mirror.settled();
    await shop.kill('worker');
    await expect(
      adminDoes(admin, 'updateCustomer', 'UpdateCustomerInput!', { id: '99999', lastName: 'Nobody' }),
    ).rejects.toThrow();
    expect(await shop.sql('select * from customer_sync_note')).toEqual([]);
    await shop.start('worker');
  });

  test.each([
    ['setOrderCustomFields', '{ customFields: { deliveryStage: "DELIVERED" } }'],
    ['setOrderCustomFields', '{ customFields: { trackingNumber: "X" } }'],
    ['updateCustomer', '{ customFields: { phoneVerified: true } }'],
    ['updateCustomer', '{ customFields: { marketingConsent: true } }'],
    ['registerCustomerAccount', '{ emailAddress: "a@b.lk", customFields: { phoneVerified: true } }'],
    [
      'setCustomerForOrder',
      '{ emailAddress: "a@b.lk", firstName: "A", lastName: "B", customFields: { phoneVerified: true } }',
    ],
  ])('do not let a shopper set custom fields: %s(%s)', async (mutation, input) => {
    const shopper = shop.shopper();
    const id = await newCustomer(shop, shopper);
    const orderId = await addToCart(shopper);
    const before = await admin.run(PRIVATE_FIELDS, { id, orderId });
    const attempt = shopper.run(`mutation { ${mutation}(input: ${input}) { __typename } }`);
    await expect(attempt).rejects.toThrow(/not currently authorized|not defined|Unknown argument/);
    expect(await admin.run(PRIVATE_FIELDS, { id, orderId })).toEqual(before);
  });

  test.each([
    'printName: "MESSI"',
    'printNumber: "10"',
    'patchEnabled: true',
    'patchType: "x"',
    'preOrder: true',
  ])('do not let a shopper set %s of a line', async (field) => {
    const add = `addItemToOrder(productVariantId: "1", quantity: 1, customFields: { ${field} })`;
    await expect(shop.shopper().run(`mutation { ${add} { __typename } }`)).rejects.toThrow(
      /Unknown argument/,
    );
  });

  test('let a shopper change what is theirs', async () => {
    const shopper = shop.shopper();
    const id = await newCustomer(shop, shopper);
    await mirror.arrives('customer', id, () =>
      shopper.run('mutation { updateCustomer(input: { lastName: "New", customFields: {} }) { id } }'),
    );
  });

  test('do not show a shopper custom fields that are not public', async () => {
    const shopper = shop.shopper();
    await newCustomer(shop, shopper);
    await addToCart(shopper);
    const shown = await shopper.run(
      '{ activeCustomer { customFields } activeOrder { customFields lines { id } } }',
    );
    expect([shown.activeCustomer.customFields, shown.activeOrder.customFields]).toEqual([null, null]);
    await expect(shopper.run('{ activeOrder { deliveryStageChanges { stage } } }')).rejects.toThrow(
      /Cannot query/,
    );
    await expect(shopper.run('{ activeOrder { lines { customFields { printName } } } }')).rejects.toThrow(
      /subfields/,
    );
  });

  test('keep what the gateway said of a payment in the shop', async () => {
    const id = await placeOrder(shop);
    await mirror.converged('order', id);
    expect(JSON.stringify(mirror.receiver.requests)).not.toContain('never to be sent');
  });

  test('keep every stage and tracking number an order has had, oldest first, and not the same one twice', async () => {
    const id = await placeOrder(shop);
    await setStage(id, 'SOURCING');
    await setStage(id, 'SOURCING');
    await adminDoes(admin, 'setOrderCustomFields', 'UpdateOrderInput!', {
      id,
      customFields: { giftNote: 'x' },
    });
    await setStage(id, 'DISPATCHED', 'TRACK-1');
    await mirror.converged('order', id);
    expect(mirror.receiver.newest('order', id)?.data.deliveryStageChanges).toMatchObject([
      { stage: 'SOURCING', trackingNumber: null },
      { stage: 'DISPATCHED', trackingNumber: 'TRACK-1' },
    ]);
  });

  test('take only the five stages', async () => {
    const id = await placeOrder(shop);
    await expect(setStage(id, 'LOST')).rejects.toThrow(/deliveryStage/);
  });

  test('note what is committed, even if the savepoint that held the note is rolled back', async () => {
    const id = await newCustomer(shop, shop.shopper());
    await mirror.arrives('customer', id, () =>
      admin.run('mutation ($id: ID!) { changeNamesAndRegretOne(id: $id) }', { id }),
    );
    expect(mirror.held('customer', id)).toMatchObject({ firstName: 'Kept', lastName: 'Silva' });
  });

  test('take back a placed order that is removed', async () => {
    const id = await placeOrder(shop);
    await mirror.settled();
    await admin.run('mutation ($id: ID!) { removeOrderForGood(id: $id) }', { id });
    await eventually(() =>
      expect(mirror.receiver.newest('order', id)).toMatchObject({ type: 'order.deleted', data: null }),
    );
  });
});
