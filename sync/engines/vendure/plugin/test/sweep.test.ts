/**
 * What the mirror asks to prove that nothing is missing. A hook, a fingerprint and a document of one state must have
 * one hash, or every sweep would find drift where there is none.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Kind } from './support/admin-documents';
import { MirroredShop } from './support/mirrored-shop';
import { eventually, type HookEvent } from './support/receiver';
import { Client, type Shop } from './support/shop';
import { ADDRESS, addToCart, adminDoes, beGuest, newCustomer, newEmail, placeOrder } from './support/story';

interface Slice {
  readAt: string;
  counted: number;
  position: string | null;
  fingerprints: Array<{ id: string; hash: string }>;
}

const ENTITIES = { customer: 'CUSTOMER', order: 'ORDER' } as const;

async function count(admin: Client, kind: Kind, since?: Date): Promise<number> {
  const query =
    'query ($entity: MirrorEntity!, $since: DateTime) { mirrorCount(entity: $entity, since: $since) }';
  return (await admin.run(query, { entity: ENTITIES[kind], since })).mirrorCount;
}

async function slice(admin: Client, kind: Kind, rest: object): Promise<Slice> {
  const query = `query ($entity: MirrorEntity!, $position: String, $since: DateTime, $limit: Int!) {
    mirrorSweep(entity: $entity, position: $position, since: $since, limit: $limit) {
      readAt counted position fingerprints { id hash } } }`;
  return (await admin.run(query, { entity: ENTITIES[kind], limit: 1000, ...rest })).mirrorSweep;
}

/** All fingerprints, by slices of `limit`; the count of each slice is that of its list. */
async function sweep(admin: Client, kind: Kind, limit = 1000, since?: Date): Promise<Map<string, string>> {
  const found: Array<[string, string]> = [];
  let position: string | null = null;
  do {
    const next: Slice = await slice(admin, kind, { position, since, limit });
    expect(next.counted).toBe(next.fingerprints.length);
    found.push(...next.fingerprints.map(({ id, hash }) => [id, hash] as [string, string]));
    position = next.position;
  } while (position !== null);
  expect(new Set(found.map(([id]) => id)).size).toBe(found.length);
  return new Map(found);
}

async function documents(admin: Client, kind: Kind, ids: string[]): Promise<HookEvent[]> {
  const query =
    'query ($entity: MirrorEntity!, $ids: [ID!]!) { mirrorDocuments(entity: $entity, ids: $ids) }';
  return (await admin.run(query, { entity: ENTITIES[kind], ids })).mirrorDocuments;
}

/** The newest hook, the fingerprint and the document of an entity say the same. */
async function agree(mirror: MirroredShop, kind: Kind, id: string): Promise<void> {
  const [event] = await documents(mirror.admin, kind, [id]);
  const hook = mirror.receiver.newest(kind, id);
  expect(event).toMatchObject({ type: `${kind}.changed`, entityId: id });
  expect(JSON.stringify(event?.data)).toBe(JSON.stringify(hook?.data));
  expect(event?.hash).toMatch(/^[\w-]{24}$/);
  expect(hook?.hash).toBe(event?.hash);
  expect((await sweep(mirror.admin, kind)).get(id)).toBe(event?.hash);
}

const setStage = (admin: Client, id: string, deliveryStage: string) =>
  adminDoes(admin, 'setOrderCustomFields', 'UpdateOrderInput!', { id, customFields: { deliveryStage } });

describe('The Admin API', () => {
  let mirror: MirroredShop;
  let shop: Shop;
  let admin: Client;

  beforeAll(async () => {
    mirror = await (await MirroredShop.create()).open('server', 'worker');
    ({ shop, admin } = mirror);
    await Promise.all(Array.from({ length: 5 }, () => placeOrder(shop)));
  });
  afterAll(() => mirror.close());

  test('counts and sweeps every customer and every placed order once, in slices of any size', async () => {
    await addToCart(shop.shopper());
    const placed = await shop.sql('select id from "order" where "orderPlacedAt" is not null order by id');
    const customers = await shop.sql('select id from customer where "deletedAt" is null order by id');
    for (const limit of [1, 2, 1000]) {
      expect([...(await sweep(admin, 'order', limit)).keys()]).toEqual(placed.map(({ id }) => String(id)));
    }
    expect([...(await sweep(admin, 'customer', 3)).keys()]).toEqual(customers.map(({ id }) => String(id)));
    expect([await count(admin, 'order'), await count(admin, 'customer')]).toEqual([
      placed.length,
      customers.length,
    ]);
  });

  test('has no place for the parts that sellers get of an order', async () => {
    const before = await count(admin, 'order');
    const id = await placeOrder(shop, 'Settled', { ...ADDRESS, company: 'Marketplace' });
    expect(await count(admin, 'order')).toBe(before + 1);
    expect((await sweep(admin, 'order')).has(id)).toBe(true);
  });

  test('gives an order the hash that its hook has', async () => {
    const id = await placeOrder(shop);
    await setStage(admin, id, 'SOURCING');
    await mirror.settled();
    await agree(mirror, 'order', id);
  });

  test('gives a customer the hash that the hook has', async () => {
    const shopper = shop.shopper();
    const id = await newCustomer(shop, shopper);
    for (const company of ['One', 'Two']) {
      const create = 'mutation ($input: CreateAddressInput!) { createCustomerAddress(input: $input) { id } }';
      await shopper.run(create, { input: { ...ADDRESS, company } });
    }
    await mirror.settled();
    await agree(mirror, 'customer', id);
  });

  test('gives the same hash wherever the database has moved the rows to', async () => {
    const id = await placeOrder(shop);
    const [{ customerId }] = await shop.sql('select "customerId" from "order" where id = $1', [id]);
    for (const line of ['One', 'Two']) {
      await admin.run(
        `mutation ($id: ID!, $input: CreateAddressInput!) {
          createCustomerAddress(customerId: $id, input: $input) { id } }`,
        { id: customerId, input: { streetLine1: line, countryCode: 'LK' } },
      );
    }
    const hashes = async () => [
      (await sweep(admin, 'order')).get(id),
      (await sweep(admin, 'customer')).get(String(customerId)),
    ];
    const before = await hashes();
    const moved = [
      `order_line set quantity = quantity where "orderId" = ${id}`,
      `address set city = city where "customerId" = ${customerId}`,
    ];
    for (const change of moved) {
      const table = change.split(' ')[0];
      const first = `id = (select min(id) from ${table} where ${change.split(' where ')[1]})`;
      await shop.sql(`update ${change} and ${first}`);
    }
    expect(await hashes()).toEqual(before);
  });

  test('sees that a product was renamed after it was ordered, of which no hook tells', async () => {
    const id = await placeOrder(shop);
    await mirror.settled();
    await agree(mirror, 'order', id);
    await shop.sql(`update product_translation set name = name || ' (new)'`);
    const hash = (await sweep(admin, 'order')).get(id);
    const before = mirror.receiver.newest('order', id)?.hash;
    expect(hash).not.toBe(before);
    expect(hash?.slice(0, 16)).toBe(before?.slice(0, 16));
    expect((await documents(admin, 'order', [id]))[0]?.hash).toBe(hash);
  });

  test('does not take a change of a customer for one of their orders', async () => {
    const id = await placeOrder(shop);
    const before = (await sweep(admin, 'order')).get(id);
    const [{ customerId }] = await shop.sql('select "customerId" from "order" where id = $1', [id]);
    await adminDoes(admin, 'updateCustomer', 'UpdateCustomerInput!', {
      id: String(customerId),
      lastName: 'Else',
    });
    expect((await sweep(admin, 'order')).get(id)).toBe(before);
  });

  test('tells of what is new, counted and swept', async () => {
    const [{ now }] = await shop.sql(`select now()`);
    const id = await placeOrder(shop);
    expect(await count(admin, 'order', now)).toBe(1);
    expect([...(await sweep(admin, 'order', 1000, now)).keys()]).toEqual([id]);
    expect(await count(admin, 'customer', now)).toBe(1);
    expect((await sweep(admin, 'customer', 1000, now)).size).toBe(1);
  });

  test('reads the clock before the state', async () => {
    const [{ before }] = await shop.sql('select clock_timestamp() as before');
    const { readAt } = await slice(admin, 'order', { limit: 1 });
    const [event] = await documents(admin, 'order', ['1']);
    const [{ after }] = await shop.sql('select clock_timestamp() as after');
    for (const time of [readAt, event?.readAt ?? '']) {
      expect(time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
      expect(new Date(time) >= before && new Date(time) <= after).toBe(true);
    }
  });

  test('says of what it no longer has that it is deleted', async () => {
    const customer = await newCustomer(shop, shop.shopper());
    await admin.run('mutation ($id: ID!) { deleteCustomer(id: $id) { result } }', { id: customer });
    const gone = { hash: null, data: null };
    expect(await documents(admin, 'customer', [customer, '999999'])).toMatchObject([
      { type: 'customer.deleted', entityId: customer, ...gone },
      { type: 'customer.deleted', entityId: '999999', ...gone },
    ]);
    expect((await sweep(admin, 'customer')).has(customer)).toBe(false);
    const order = await placeOrder(shop);
    await admin.run('mutation ($id: ID!) { removeOrderForGood(id: $id) }', { id: order });
    const cart = await addToCart(shop.shopper());
    expect(await documents(admin, 'order', [order, cart])).toMatchObject([
      { type: 'order.deleted', entityId: order, ...gone },
      { type: 'order.deleted', entityId: cart, ...gone },
    ]);
  });

  test('never gives two answers one id, not even of one state', async () => {
    const id = await placeOrder(shop);
    const events = [...(await documents(admin, 'order', [id])), ...(await documents(admin, 'order', [id]))];
    expect(events[0]?.hash).toBe(events[1]?.hash);
    expect(events[0]?.id).not.toBe(events[1]?.id);
    expect(await documents(admin, 'order', [id, id])).toHaveLength(1);
  });

  test('does not let an order that cannot be read hide the others, and says so', async () => {
    const [good, bad] = [await placeOrder(shop), await placeOrder(shop)];
    const [{ adjustments }] = await shop.sql('select adjustments from order_line where "orderId" = $1', [
      bad,
    ]);
    const set = 'update order_line set adjustments = $2 where "orderId" = $1';
    await shop.sql(set, [bad, 'null']);
    const found = await sweep(admin, 'order');
    expect([found.get(bad), found.get(good)]).toEqual(['unreadable', expect.stringMatching(/^[\w-]{24}$/)]);
    expect(await documents(admin, 'order', [bad, good])).toMatchObject([{ entityId: good }]);
    await eventually(() =>
      expect(shop.log).toMatch(`could not read order ${bad}, for which the mirror asks`),
    );
    await shop.sql(set, [bad, adjustments]);
  });

  test('refuses more at once than it says', async () => {
    await expect(slice(admin, 'order', { limit: 1001 })).rejects.toThrow('limit: must be from 1 to 1000');
    await expect(slice(admin, 'order', { limit: 0 })).rejects.toThrow('limit: must be from 1 to 1000');
    const many = Array.from({ length: 201 }, (_, n) => String(n));
    await expect(documents(admin, 'order', many)).rejects.toThrow('ids: must be 200 at the most');
    await expect(slice(admin, 'order', { position: 'nowhere' })).rejects.toThrow('position: must be one');
  });

  describe('tells only those who may know it:', () => {
    const FORBIDDEN = 'not currently authorized';

    /** An administrator with these permissions, in the channels that are named. */
    async function administrator(permissions: string[], channelIds?: string[]): Promise<Client> {
      const { createRole } = await admin.run(
        'mutation ($input: CreateRoleInput!) { createRole(input: $input) { id } }',
        { input: { code: newEmail(), description: 'for a test', permissions, channelIds } },
      );
      const emailAddress = newEmail();
      await adminDoes(admin, 'createAdministrator', 'CreateAdministratorInput!', {
        emailAddress,
        firstName: 'A',
        lastName: 'B',
        password: 'password',
        roleIds: [createRole.id],
      });
      return shop.admin(emailAddress, 'password');
    }

    test('not to the world', async () => {
      const nobody = shop.stranger();
      await expect(count(nobody, 'order')).rejects.toThrow(FORBIDDEN);
      await expect(slice(nobody, 'customer', {})).rejects.toThrow(FORBIDDEN);
      await expect(documents(nobody, 'order', ['1'])).rejects.toThrow(FORBIDDEN);
      await expect(shop.shopper().run('{ mirrorCount(entity: ORDER) }')).rejects.toThrow('Cannot query');
    });

    test.each([
      ['ReadCustomer', 'customer', 'order'],
      ['ReadOrder', 'order', 'customer'],
    ] as const)('with %s each %s, and no %s', async (permission, may, mayNot) => {
      const someone = await administrator([permission]);
      expect(await count(someone, may)).toBeGreaterThan(0);
      await slice(someone, may, {});
      await documents(someone, may, ['1']);
      await expect(count(someone, mayNot)).rejects.toThrow(FORBIDDEN);
      await expect(slice(someone, mayNot, {})).rejects.toThrow(FORBIDDEN);
      await expect(documents(someone, mayNot, ['1'])).rejects.toThrow(FORBIDDEN);
    });

    test('not to administrators of another channel', async () => {
      const { createChannel } = await admin.run(
        `mutation ($input: CreateChannelInput!) { createChannel(input: $input) { ... on Channel { id } } }`,
        {
          input: {
            code: 'elsewhere',
            token: 'elsewhere',
            defaultLanguageCode: 'en',
            pricesIncludeTax: true,
            defaultCurrencyCode: 'LKR',
            defaultTaxZoneId: '1',
            defaultShippingZoneId: '1',
          },
        },
      );
      const someone = await administrator(['ReadCustomer', 'ReadOrder'], [createChannel.id]);
      someone.channel = 'elsewhere';
      expect((await someone.run('{ orders { totalItems } }')).orders.totalItems).toBe(0);
      await expect(count(someone, 'order')).rejects.toThrow(FORBIDDEN);
    });
  });
});

describe('In a shop that writes its ids in another way', () => {
  let mirror: MirroredShop;

  beforeAll(async () => {
    mirror = await MirroredShop.create();
    mirror.shop.ids = 'encoded';
    await mirror.open('server', 'worker');
  });
  afterAll(() => mirror.close());

  test('hook, fingerprint and document agree, and positions lead on', async () => {
    const { shop, admin } = mirror;
    const ids: string[] = [];
    for (let n = 0; n < 3; n += 1) {
      const shopper = shop.shopper();
      const id = await addToCart(shopper, 'T_1');
      await beGuest(shopper, newEmail());
      await shop.sql(`update "order" set "orderPlacedAt" = now(), active = false where id = $1`, [
        id.slice(2),
      ]);
      await setStage(admin, id, 'SOURCING');
      ids.push(id);
    }
    await eventually(() => expect(mirror.receiver.newest('order', ids[2] ?? '')).toBeDefined());
    await mirror.settled();
    expect([...(await sweep(admin, 'order', 1)).keys()]).toEqual(ids);
    for (const id of ids) {
      expect(id).toMatch(/^T_\d+$/);
      await agree(mirror, 'order', id);
    }
    for (const id of (await sweep(admin, 'customer', 2)).keys()) {
      expect(id).toMatch(/^T_\d+$/);
      await agree(mirror, 'customer', id);
    }
  });
});
