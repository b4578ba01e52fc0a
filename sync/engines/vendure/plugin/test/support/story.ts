/**
 * What shoppers and admins do, as tests tell it: each step is one or a few calls of Vendure's own APIs.
 */
import type { Client, Shop } from './shop';

export const ADDRESS = {
  fullName: 'Nimal Perera',
  streetLine1: '12 Galle Road',
  city: 'Colombo',
  postalCode: '00300',
  countryCode: 'LK',
  phoneNumber: '0771234567',
};

const ERROR = '__typename ... on ErrorResult { errorCode message }';
let people = 0;

export function newEmail(): string {
  people += 1;
  return `person${people}@example.lk`;
}

/** Put two home shirts, or what is asked for, into the shopper's cart. */
export async function addToCart(shopper: Client, productVariantId = '1', quantity = 2): Promise<string> {
  const mutation = `mutation ($productVariantId: ID!, $quantity: Int!) {
    addItemToOrder(productVariantId: $productVariantId, quantity: $quantity) { ${ERROR} ... on Order { id } } }`;
  return (await shopper.run(mutation, { productVariantId, quantity })).addItemToOrder.id;
}

export async function beGuest(shopper: Client, emailAddress: string, firstName = 'Guest'): Promise<void> {
  const input = { emailAddress, firstName, lastName: 'Perera', phoneNumber: '0770000000' };
  await shopper.run(
    `mutation ($input: CreateCustomerInput!) { setCustomerForOrder(input: $input) { ${ERROR} } }`,
    { input },
  );
}

export async function arrange(shopper: Client, address: object = ADDRESS): Promise<void> {
  await shopper.run(
    `mutation ($input: CreateAddressInput!) { setOrderShippingAddress(input: $input) { ${ERROR} } }`,
    { input: address },
  );
  const { eligibleShippingMethods: methods } = await shopper.run('{ eligibleShippingMethods { id } }');
  await shopper.run(`mutation ($id: [ID!]!) { setOrderShippingMethod(shippingMethodId: $id) { ${ERROR} } }`, {
    id: [methods[0].id],
  });
  await transition(shopper, 'ArrangingPayment');
}

export async function transition(shopper: Client, state: string): Promise<void> {
  await shopper.run(`mutation ($state: String!) { transitionOrderToState(state: $state) { ${ERROR} } }`, {
    state,
  });
}

export async function pay(shopper: Client, outcome: 'Authorized' | 'Settled' | 'Declined'): Promise<void> {
  const input = { method: 'test-gateway', metadata: { outcome } };
  const mutation = `mutation ($input: PaymentInput!) { addPaymentToOrder(input: $input) { ${ERROR} } }`;
  const attempt = shopper.run(mutation, { input });
  await (outcome === 'Declined' ? attempt.catch(() => undefined) : attempt);
}

/** A guest's order, from the first item to the payment; answers its id. */
export async function placeOrder(
  shop: Shop,
  outcome: 'Authorized' | 'Settled' = 'Settled',
  address: object = ADDRESS,
): Promise<string> {
  const shopper = shop.shopper();
  const id = await addToCart(shopper);
  await addToCart(shopper, '2', 1);
  await beGuest(shopper, newEmail());
  await arrange(shopper, address);
  await pay(shopper, outcome);
  return id;
}

/** Register; the account is not verified yet. */
export async function register(shopper: Client, emailAddress: string): Promise<void> {
  const input = { emailAddress, password: 'password', firstName: 'Kamala', lastName: 'Silva' };
  const error = '__typename ... on ErrorResult { errorCode message }';
  await shopper.run(
    `mutation ($input: RegisterCustomerInput!) { registerCustomerAccount(input: $input) { ${error} } }`,
    { input },
  );
}

/** Verify with the token that Vendure would have sent by e-mail; this also logs in. */
export async function verify(shop: Shop, shopper: Client, emailAddress: string): Promise<void> {
  const token = await mailedToken(shop, 'verificationToken', emailAddress);
  await shopper.run(`mutation ($token: String!) { verifyCustomerAccount(token: $token) { ${ERROR} } }`, {
    token,
  });
}

/** A verified customer who is logged in; answers the id. */
export async function newCustomer(shop: Shop, shopper: Client, emailAddress = newEmail()): Promise<string> {
  await register(shopper, emailAddress);
  await verify(shop, shopper, emailAddress);
  return customerId(shop, emailAddress);
}

export async function logIn(shopper: Client, username: string): Promise<void> {
  await shopper.run(
    `mutation ($username: String!) { login(username: $username, password: "password") { ${ERROR} } }`,
    { username },
  );
}

export async function customerId(shop: Shop, emailAddress: string): Promise<string> {
  const rows = await shop.sql('select id from customer where "emailAddress" = $1', [emailAddress]);
  return String(rows[0].id);
}

/** Tests have no mail server: they read the token where Vendure keeps it. */
export async function mailedToken(shop: Shop, column: string, identifier: string): Promise<string> {
  const rows = await shop.sql(
    `select "${column}" as token from authentication_method where identifier = $1 and "${column}" is not null`,
    [identifier],
  );
  return rows[0].token;
}

/** A mutation of the Admin API that answers a union with error results, or a plain object. */
export async function adminDoes(admin: Client, name: string, type: string, input: unknown): Promise<void> {
  await admin.run(`mutation ($input: ${type}) { ${name}(input: $input) { __typename } }`, { input });
}
