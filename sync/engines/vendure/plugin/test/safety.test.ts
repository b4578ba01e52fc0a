/**
 * What the plugins must never do to the shop, and never let out of it.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MirroredShop } from './support/mirrored-shop';
import { eventually } from './support/receiver';
import type { Client, Shop } from './support/shop';
import { addToCart, adminDoes, newCustomer, placeOrder } from './support/story';

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
    expect(shop.log).toMatch(/Could not write down a change of .*customer_sync_note.*mirror reconcile/);
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
    ['setOrderCustomFields(input: { customFields: { deliveryStage: "DELIVERED" } })'],
    ['setOrderCustomFields(input: { customFields: { trackingNumber: "X" } })'],
    ['updateCustomer(input: { customFields: { phoneVerified: true } })'],
    ['updateCustomer(input: { customFields: { marketingConsent: true } })'],
    ['addItemToOrder(productVariantId: "1", quantity: 1, customFields: { printName: "MESSI" })'],
    ['addItemToOrder(productVariantId: "1", quantity: 1, customFields: { preOrder: true })'],
  ])('do not let a shopper set %s', async (mutation) => {
    const shopper = shop.shopper();
    await newCustomer(shop, shopper);
    await addToCart(shopper);
    await expect(shopper.run(`mutation { ${mutation} { __typename } }`)).rejects.toThrow(
      /not defined|Unknown argument/,
    );
  });

  test.each([
    ['activeOrder { customFields { deliveryStage } }', /deliveryStage/],
    ['activeOrder { deliveryStageChanges { stage } }', /deliveryStageChanges/],
    ['activeCustomer { customFields { phoneVerified } }', /phoneVerified|subfields/],
  ])('do not show a shopper %s', async (query, complaint) => {
    await expect(shop.shopper().run(`{ ${query} }`)).rejects.toThrow(complaint);
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

  test('take back a placed order that is removed', async () => {
    const id = await placeOrder(shop);
    await mirror.settled();
    await admin.run('mutation ($id: ID!) { removeOrderForGood(id: $id) }', { id });
    await eventually(() =>
      expect(mirror.receiver.newest('order', id)).toMatchObject({ type: 'order.deleted', data: null }),
    );
  });
});
