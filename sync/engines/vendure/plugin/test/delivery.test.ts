/**
 * What becomes of a change when the mirror, the network or the shop's processes fail.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { MirroredShop } from './support/mirrored-shop';
import { freePort } from './support/postgres';
import { eventually, type HookEvent, type Reply, SECRET } from './support/receiver';
import { adminDoes, customerId, newEmail, placeOrder } from './support/story';

describe('Delivery', () => {
  let mirror: MirroredShop;

  beforeAll(async () => {
    mirror = await (await MirroredShop.create({ timeoutMs: 500, batchSize: 8 })).open('server');
  });
  afterAll(() => mirror.close());

  async function newCustomers(count: number): Promise<string[]> {
    const emails = Array.from({ length: count }, newEmail);
    for (const emailAddress of emails) {
      await adminDoes(mirror.admin, 'createCustomer', 'CreateCustomerInput!', {
        emailAddress,
        firstName: 'A',
        lastName: 'Customer',
      });
    }
    return Promise.all(emails.map((email) => customerId(mirror.shop, email)));
  }

  const notes = () => mirror.shop.sql('select * from customer_sync_note order by id');
  const isAbout = (id: string) => (event: HookEvent) => event.entityId === id;

  describe('with a worker', () => {
    beforeEach(async () => {
      mirror.receiver.requests.length = 0;
      mirror.shop.log = '';
      await mirror.shop.start('worker');
    });
    afterEach(async () => {
      mirror.receiver.accept();
      await mirror.settled();
      await mirror.shop.kill('worker');
    });

    test.each([401, 404, 429, 500, 503, 302])('keeps changes that are answered with %i', async (status) => {
      mirror.receiver.reply = () => ({ status });
      const [id = ''] = await newCustomers(1);
      await eventually(() => expect(mirror.receiver.requests.length).toBeGreaterThan(1));
      expect(mirror.receiver.newest('customer', id)).toBeUndefined();
      mirror.receiver.accept();
      await mirror.converged('customer', id);
      await mirror.settled();
    });

    test('says once that changes do not arrive, and once that they do again', async () => {
      mirror.receiver.reply = () => ({ status: 401 });
      await newCustomers(1);
      await eventually(() => expect(mirror.receiver.requests.length).toBeGreaterThan(3));
      mirror.receiver.accept();
      await mirror.settled();
      const told = (sentence: RegExp) => mirror.shop.log.match(new RegExp(sentence, 'g'))?.length;
      expect(told(/Changes do not reach .*: 401 .*same secret/)).toBe(1);
      expect(told(/Changes reach .* again/)).toBe(1);
    });

    test('waits as long as Retry-After asks for', async () => {
      const times: number[] = [];
      mirror.receiver.reply = () => {
        times.push(Date.now());
        return times.length === 1 ? { status: 503, headers: { 'retry-after': '2' } } : { status: 202 };
      };
      await newCustomers(1);
      await eventually(() => expect(times.length).toBeGreaterThan(1));
      expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(2000);
    });

    test('repeats the id of an unchanged change, and never gives it to another state', async () => {
      mirror.receiver.reply = () => ({ status: 500 });
      const [id = ''] = await newCustomers(1);
      const posted = () => mirror.receiver.requests.flat().filter(isAbout(id));
      await eventually(() => expect(posted().length).toBeGreaterThan(1));
      expect(new Set(posted().map((event) => event.id)).size).toBe(1);
      await adminDoes(mirror.admin, 'updateCustomer', 'UpdateCustomerInput!', { id, lastName: 'Changed' });
      mirror.receiver.accept();
      await mirror.converged('customer', id);
      const states = new Map<string, Set<string>>();
      for (const event of posted()) {
        states.set(event.id, (states.get(event.id) ?? new Set()).add(JSON.stringify(event.data)));
      }
      expect(states.size).toBeGreaterThan(1);
      expect([...states.values()].every((bodies) => bodies.size === 1)).toBe(true);
    });

    test('sends fewer at once after a 413', async () => {
      mirror.receiver.reply = (events) => ({ status: events.length > 2 ? 413 : 202 });
      await mirror.shop.kill('worker');
      const ids = await newCustomers(8);
      await mirror.shop.start('worker');
      await Promise.all(ids.map((id) => mirror.converged('customer', id)));
      expect(mirror.receiver.requests.some(({ length }) => length === 8)).toBe(true);
      await eventually(async () => expect(await notes()).toEqual([]));
    });

    test('sets a refused change aside, keeps trying it, and lets the others pass', async () => {
      await mirror.shop.kill('worker');
      const ids = await newCustomers(8);
      const refused = ids[3] ?? '';
      mirror.receiver.reply = (events) => ({ status: events.some(isAbout(refused)) ? 400 : 202 });
      await mirror.shop.start('worker');
      await Promise.all(ids.filter((id) => id !== refused).map((id) => mirror.converged('customer', id)));
      const attempts = () =>
        mirror.receiver.requests.filter((events) => events.length === 1 && events.some(isAbout(refused)));
      await eventually(() => expect(attempts().length).toBeGreaterThan(1));
      expect(await notes()).toMatchObject([{ entityId: refused }]);
      expect(mirror.shop.log).toMatch(/The mirror refused customer/);
      mirror.receiver.accept();
      await mirror.converged('customer', refused);
      await mirror.settled();
    });

    test('sets aside a change that cannot be read, and lets the others pass', async () => {
      await mirror.shop.kill('worker');
      await mirror.shop.sql(`insert into customer_sync_note (kind, "entityId") values ('order', 'none')`);
      const ids = await newCustomers(3);
      await mirror.shop.start('worker');
      await Promise.all(ids.map((id) => mirror.converged('customer', id)));
      await eventually(async () => expect(await notes()).toMatchObject([{ entityId: 'none' }]));
      expect(mirror.shop.log).toMatch(/The shop could not read order none/);
      await mirror.shop.sql(`delete from customer_sync_note where "entityId" = 'none'`);
    });

    test('sends notes of one entity as one event', async () => {
      await mirror.shop.kill('worker');
      const [id = ''] = await newCustomers(1);
      for (const lastName of ['One', 'Two', 'Three']) {
        await adminDoes(mirror.admin, 'updateCustomer', 'UpdateCustomerInput!', { id, lastName });
      }
      expect(await notes()).toHaveLength(4);
      await mirror.shop.start('worker');
      await mirror.converged('customer', id);
      expect(mirror.receiver.requests.flat().filter(isAbout(id))).toHaveLength(1);
    });

    test('notes a transaction once, however many rows it writes', async () => {
      const orderId = await placeOrder(mirror.shop);
      await mirror.settled();
      await mirror.shop.kill('worker');
      await adminDoes(mirror.admin, 'cancelOrder', 'CancelOrderInput!', { orderId });
      expect((await notes()).length).toBeLessThanOrEqual(2);
      await mirror.shop.start('worker');
    });

    test('survives kill -9 between the answer of the mirror and the end of the notes', async () => {
      let killed: Promise<void> | undefined;
      const killer: Reply = async () => {
        killed ??= mirror.shop.kill('worker');
        await killed;
        return { status: 202 };
      };
      mirror.receiver.reply = killer;
      const [id = ''] = await newCustomers(1);
      await eventually(() => expect(mirror.receiver.requests).toHaveLength(1));
      await killed;
      expect(await notes()).toHaveLength(1);
      mirror.receiver.accept();
      await mirror.shop.start('worker');
      await mirror.settled();
      expect(mirror.receiver.requests.flat().filter(isAbout(id)).length).toBeGreaterThan(1);
      await mirror.converged('customer', id);
    });

    test('shares the work among several workers, and loses nothing when all of them die', async () => {
      await mirror.shop.start('worker');
      const before = await newCustomers(12);
      await mirror.shop.kill('worker');
      await mirror.shop.start('worker', 'worker');
      const ids = [...before, ...(await newCustomers(12))];
      await Promise.all(ids.map((id) => mirror.converged('customer', id)));
      await mirror.settled();
    });

    test('signs with every secret, so that a mirror that knows one of them accepts', async () => {
      const other = `whsec_${Buffer.from('another secret, to which we rotate').toString('base64')}`;
      const { sync } = mirror.shop;
      await mirror.shop.kill('worker');
      mirror.shop.sync = { ...sync, secret: [SECRET, other] };
      await mirror.shop.start('worker');
      mirror.shop.sync = sync;
      for (const secret of [other, SECRET]) {
        mirror.receiver.secret = secret;
        const [id = ''] = await newCustomers(1);
        await mirror.converged('customer', id);
      }
    });
  });

  test('survives kill -9 between the commit and the request', async () => {
    mirror.receiver.requests.length = 0;
    const id = await placeOrder(mirror.shop);
    await mirror.shop.kill('server');
    expect(mirror.receiver.requests).toEqual([]);
    await mirror.shop.start('server', 'worker');
    mirror.admin = await mirror.shop.admin();
    await mirror.converged('order', id);
    await mirror.shop.kill('worker');
  });

  test('waits for a mirror that is not there yet', async () => {
    const { sync } = mirror.shop;
    mirror.shop.sync = { ...sync, endpoint: `http://127.0.0.1:${await freePort()}/hooks/shop` };
    await mirror.shop.start('worker');
    const [id = ''] = await newCustomers(1);
    await eventually(() => expect(mirror.shop.log).toMatch(/Changes do not reach .*ECONNREFUSED/));
    expect(await notes()).toHaveLength(1);
    await mirror.shop.kill('worker', 'SIGTERM');
    mirror.shop.sync = sync;
    await mirror.shop.start('worker');
    await mirror.converged('customer', id);
  });

  test('works from the server, for shops without a worker', async () => {
    await mirror.shop.kill('worker');
    await mirror.shop.kill('server');
    mirror.shop.sync = { ...mirror.shop.sync, sendFrom: 'server' };
    await mirror.shop.start('server');
    mirror.admin = await mirror.shop.admin();
    await mirror.converged('order', await placeOrder(mirror.shop));
  });
});
