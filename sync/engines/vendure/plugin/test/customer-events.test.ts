import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MirroredShop } from './support/mirrored-shop';
import { eventually } from './support/receiver';
import type { Client, Shop } from './support/shop';
import {
  ADDRESS,
  addToCart,
  adminDoes,
  beGuest,
  customerId,
  mailedToken,
  newCustomer,
  newEmail,
  register,
  verify,
} from './support/story';

describe('A change of a customer arrives:', () => {
  let mirror: MirroredShop;
  let shop: Shop;
  let admin: Client;

  beforeAll(async () => {
    mirror = await (await MirroredShop.create()).open('server', 'worker');
    ({ shop, admin } = mirror);
  });
  afterAll(() => mirror.close());

  test('register / verify', async () => {
    const shopper = shop.shopper();
    const email = newEmail();
    await register(shopper, email);
    const id = await customerId(shop, email);
    await mirror.converged('customer', id);
    await mirror.arrives('customer', id, () => verify(shop, shopper, email));
  });

  test('profile or admin update', async () => {
    const shopper = shop.shopper();
    const id = await newCustomer(shop, shopper);
    await mirror.arrives('customer', id, () =>
      shopper.run('mutation { updateCustomer(input: { phoneNumber: "0711111111" }) { id } }'),
    );
    await mirror.arrives('customer', id, () =>
      adminDoes(admin, 'updateCustomer', 'UpdateCustomerInput!', {
        id,
        lastName: 'Fernando',
        customFields: { phoneVerified: true, marketingConsent: true },
      }),
    );
  });

  test('e-mail change by token', async () => {
    const shopper = shop.shopper();
    const email = newEmail();
    const id = await newCustomer(shop, shopper, email);
    await shopper.run(
      `mutation ($email: String!) { requestUpdateCustomerEmailAddress(password: "password", newEmailAddress: $email) {
        __typename } }`,
      { email: newEmail() },
    );
    const token = await mailedToken(shop, 'identifierChangeToken', email);
    await mirror.arrives('customer', id, () =>
      shopper.run('mutation ($token: String!) { updateCustomerEmailAddress(token: $token) { __typename } }', {
        token,
      }),
    );
  });

  test('address add/update/delete, and the default flag taken over', async () => {
    const shopper = shop.shopper();
    const id = await newCustomer(shop, shopper);
    const mutation = (name: string, type: string) =>
      `mutation ($input: ${type}!) { ${name}(input: $input) { id } }`;
    const add = async (input: object): Promise<string> => {
      const answer = await shopper.run(mutation('createCustomerAddress', 'CreateAddressInput'), { input });
      return answer.createCustomerAddress.id;
    };
    let first = '';
    await mirror.arrives('customer', id, async () => {
      first = await add({ ...ADDRESS, defaultShippingAddress: true });
    });
    await mirror.arrives('customer', id, () =>
      add({ ...ADDRESS, city: 'Kandy', defaultShippingAddress: true }),
    );
    const input = { id: first, city: 'Galle', defaultShippingAddress: true };
    await mirror.arrives('customer', id, () =>
      shopper.run(mutation('updateCustomerAddress', 'UpdateAddressInput'), { input }),
    );
    await mirror.arrives('customer', id, () =>
      shopper.run('mutation ($first: ID!) { deleteCustomerAddress(id: $first) { success } }', { first }),
    );
  });

  test('customer group add/remove', async () => {
    const id = await newCustomer(shop, shop.shopper());
    const answer = await admin.run(
      'mutation { createCustomerGroup(input: { name: "Club", customerIds: [] }) { id } }',
    );
    const groupId = answer.createCustomerGroup.id;
    const change = (name: string) => () =>
      admin.run(
        `mutation ($groupId: ID!, $id: ID!) { ${name}(customerGroupId: $groupId, customerIds: [$id]) { id } }`,
        { groupId, id },
      );
    await mirror.arrives('customer', id, change('addCustomersToGroup'));
    await mirror.arrives('customer', id, change('removeCustomersFromGroup'));
  });

  test('customer group renamed or deleted', async () => {
    const id = await newCustomer(shop, shop.shopper());
    const create =
      'mutation ($id: ID!) { createCustomerGroup(input: { name: "Old", customerIds: [$id] }) { id } }';
    const groupId = (await admin.run(create, { id })).createCustomerGroup.id;
    await mirror.arrives('customer', id, () =>
      adminDoes(admin, 'updateCustomerGroup', 'UpdateCustomerGroupInput!', { id: groupId, name: 'New' }),
    );
    await mirror.arrives('customer', id, () =>
      admin.run('mutation ($groupId: ID!) { deleteCustomerGroup(id: $groupId) { result } }', { groupId }),
    );
  });

  test('delete customer (soft)', async () => {
    const id = await newCustomer(shop, shop.shopper());
    await mirror.settled();
    await admin.run('mutation ($id: ID!) { deleteCustomer(id: $id) { result } }', { id });
    await eventually(() =>
      expect(mirror.receiver.newest('customer', id)).toMatchObject({ type: 'customer.deleted', data: null }),
    );
  });

  test('setCustomerForOrder, known e-mail: the customer row is overwritten', async () => {
    const email = newEmail();
    const first = shop.shopper();
    await addToCart(first);
    await beGuest(first, email, 'Before');
    const id = await customerId(shop, email);
    const second = shop.shopper();
    await addToCart(second);
    await mirror.arrives('customer', id, () => beGuest(second, email, 'After'));
  });
});
