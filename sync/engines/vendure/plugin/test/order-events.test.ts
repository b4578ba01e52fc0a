import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MirroredShop } from './support/mirrored-shop';
import type { Client, Shop } from './support/shop';
import {
  ADDRESS,
  addToCart,
  adminDoes,
  arrange,
  beGuest,
  customerId,
  logIn,
  newCustomer,
  newEmail,
  pay,
  placeOrder,
  transition,
} from './support/story';

describe('A change of an order arrives:', () => {
  let mirror: MirroredShop;
  let shop: Shop;
  let admin: Client;

  beforeAll(async () => {
    mirror = await (await MirroredShop.create()).open('server', 'worker');
    ({ shop, admin } = mirror);
    await admin.run(`mutation { createPromotion(input: { enabled: true, couponCode: "TEN", conditions: [],
      translations: [{ languageCode: en, name: "Ten off" }], actions: [{ code: "order_percentage_discount",
      arguments: [{ name: "discount", value: "10" }] }] }) { __typename } }`);
  });
  afterAll(() => mirror.close());

  /** Lines of an order as inputs of a mutation: all of each, or the given quantity. */
  async function lines(
    id: string,
    quantity?: number,
  ): Promise<Array<{ orderLineId: string; quantity: number }>> {
    const { order } = await admin.run('query ($id: ID!) { order(id: $id) { lines { id quantity } } }', {
      id,
    });
    return order.lines.map((line: { id: string; quantity: number }) => ({
      orderLineId: line.id,
      quantity: quantity ?? line.quantity,
    }));
  }

  async function payments(
    id: string,
  ): Promise<Array<{ id: string; amount: number; refunds: Array<{ id: string }> }>> {
    const query = 'query ($id: ID!) { order(id: $id) { payments { id amount refunds { id } } } }';
    return (await admin.run(query, { id })).order.payments;
  }

  async function finish(shopper: Client): Promise<void> {
    await beGuest(shopper, newEmail());
    await arrange(shopper);
    await pay(shopper, 'Settled');
  }

  test('first item: with the order, once it is placed', async () => {
    const shopper = shop.shopper();
    const id = await addToCart(shopper);
    await mirror.staysUnsent('order', id);
    await finish(shopper);
    await mirror.converged('order', id);
  });

  test('add / change / remove a line: with the order, once it is placed', async () => {
    const shopper = shop.shopper();
    const id = await addToCart(shopper);
    await addToCart(shopper, '2', 1);
    const [first, second] = await lines(id);
    await shopper.run(
      'mutation ($line: ID!) { adjustOrderLine(orderLineId: $line, quantity: 5) { __typename } }',
      {
        line: first?.orderLineId,
      },
    );
    await shopper.run('mutation ($line: ID!) { removeOrderLine(orderLineId: $line) { __typename } }', {
      line: second?.orderLineId,
    });
    await mirror.staysUnsent('order', id);
    await finish(shopper);
    await mirror.converged('order', id);
    expect(mirror.held('order', id)).toMatchObject({ lines: [{ quantity: 5 }] });
  });

  test('line custom field only', async () => {
    const id = await placeOrder(shop, 'Settled');
    const [line] = await lines(id);
    const printed = {
      patchEnabled: true,
      patchType: 'league',
      printName: 'PERERA',
      printNumber: '10',
      preOrder: true,
    };
    await admin.run(
      'mutation ($id: ID!) { transitionOrderToState(id: $id, state: "Modifying") { __typename } }',
      {
        id,
      },
    );
    await mirror.arrives('order', id, () =>
      adminDoes(admin, 'modifyOrder', 'ModifyOrderInput!', {
        dryRun: false,
        orderId: id,
        adjustOrderLines: [{ ...line, customFields: printed }],
      }),
    );
    expect(mirror.held('order', id)).toMatchObject({ lines: [{ customFields: printed }, {}] });
  });

  test('coupon: with the order, once it is placed', async () => {
    const shopper = shop.shopper();
    const id = await addToCart(shopper);
    await shopper.run('mutation { applyCouponCode(couponCode: "TEN") { __typename } }');
    await mirror.staysUnsent('order', id);
    await finish(shopper);
    await mirror.converged('order', id);
    expect(mirror.held('order', id)).toMatchObject({
      couponCodes: ['TEN'],
      discounts: [{ description: 'Ten off' }],
    });
  });

  test('shipping/billing address, shipping method: with the order, once it is placed', async () => {
    const shopper = shop.shopper();
    const id = await addToCart(shopper);
    await shopper.run(
      'mutation ($input: CreateAddressInput!) { setOrderBillingAddress(input: $input) { __typename } }',
      { input: { ...ADDRESS, company: 'Billing' } },
    );
    await finish(shopper);
    await mirror.converged('order', id);
    expect(mirror.held('order', id)).toMatchObject({
      shippingAddress: { city: 'Colombo' },
      billingAddress: { company: 'Billing' },
      shippingLines: [{ shippingMethod: { code: 'courier', name: 'Courier' } }],
    });
  });

  test('setCustomerForOrder, known e-mail: with the order, once it is placed', async () => {
    const email = newEmail();
    const first = shop.shopper();
    await addToCart(first);
    await beGuest(first, email);
    const shopper = shop.shopper();
    const id = await addToCart(shopper);
    await beGuest(shopper, email);
    await arrange(shopper);
    await pay(shopper, 'Settled');
    await mirror.converged('order', id);
    await mirror.converged('customer', await customerId(shop, email));
  });

  test('payment declined', async () => {
    const shopper = shop.shopper();
    const id = await addToCart(shopper);
    await beGuest(shopper, newEmail());
    await arrange(shopper);
    await pay(shopper, 'Declined');
    await mirror.staysUnsent('order', id);
    await pay(shopper, 'Settled');
    await mirror.converged('order', id);
    expect(mirror.held('order', id)).toMatchObject({
      payments: [{ state: 'Declined' }, { state: 'Settled' }],
    });
  });

  test('order placed: its customer is sent too', async () => {
    const shopper = shop.shopper();
    const id = await addToCart(shopper);
    const email = newEmail();
    await beGuest(shopper, email);
    await arrange(shopper);
    await mirror.settled();
    const customer = await customerId(shop, email);
    const before = mirror.receiver.newest('customer', customer)?.readAt ?? '';
    await pay(shopper, 'Authorized');
    await mirror.converged('order', id);
    await mirror.settled();
    expect((mirror.receiver.newest('customer', customer)?.readAt ?? '') > before).toBe(true);
  });

  test('settle payment', async () => {
    const id = await placeOrder(shop, 'Authorized');
    const [payment] = await payments(id);
    await mirror.arrives('order', id, () =>
      admin.run('mutation ($id: ID!) { settlePayment(id: $id) { __typename } }', { id: payment?.id }),
    );
  });

  test('setOrderCustomFields', async () => {
    const id = await placeOrder(shop);
    await mirror.arrives('order', id, () =>
      adminDoes(admin, 'setOrderCustomFields', 'UpdateOrderInput!', {
        id,
        customFields: { giftNote: 'Happy birthday', deliveryStage: 'SOURCING' },
      }),
    );
  });

  test('modifyOrder', async () => {
    const id = await placeOrder(shop);
    const [payment] = await payments(id);
    const [line] = await lines(id);
    await mirror.arrives('order', id, () =>
      admin.run(
        'mutation ($id: ID!) { transitionOrderToState(id: $id, state: "Modifying") { __typename } }',
        {
          id,
        },
      ),
    );
    await mirror.arrives('order', id, () =>
      adminDoes(admin, 'modifyOrder', 'ModifyOrderInput!', {
        dryRun: false,
        orderId: id,
        adjustOrderLines: [{ orderLineId: line?.orderLineId, quantity: 1 }],
        surcharges: [{ description: 'Gift wrap', price: 100, priceIncludesTax: true }],
        updateShippingAddress: { city: 'Jaffna', countryCode: 'LK' },
        refund: { paymentId: payment?.id, reason: 'one less' },
      }),
    );
  });

  test('fulfilment create / ship / deliver', async () => {
    const id = await placeOrder(shop);
    const fulfil = async () =>
      adminDoes(admin, 'addFulfillmentToOrder', 'FulfillOrderInput!', {
        lines: await lines(id),
        handler: {
          code: 'manual-fulfillment',
          arguments: [
            { name: 'method', value: 'Courier' },
            { name: 'trackingCode', value: 'TRACK-1' },
          ],
        },
      });
    await mirror.arrives('order', id, fulfil);
    const query = 'query ($id: ID!) { order(id: $id) { fulfillments { id } } }';
    const [fulfillment] = (await admin.run(query, { id })).order.fulfillments;
    for (const state of ['Shipped', 'Delivered']) {
      await mirror.arrives('order', id, () =>
        admin.run(
          'mutation ($id: ID!, $state: String!) { transitionFulfillmentToState(id: $id, state: $state) { __typename } }',
          {
            id: fulfillment.id,
            state,
          },
        ),
      );
    }
  });

  test('refund, settle refund', async () => {
    const id = await placeOrder(shop);
    const [payment] = await payments(id);
    await mirror.arrives('order', id, () =>
      adminDoes(admin, 'refundOrder', 'RefundOrderInput!', {
        paymentId: payment?.id,
        amount: 500,
        lines: [],
        shipping: 0,
        adjustment: 0,
        reason: 'late',
      }),
    );
    const [refunded] = await payments(id);
    await mirror.arrives('order', id, () =>
      adminDoes(admin, 'settleRefund', 'SettleRefundInput!', {
        id: refunded?.refunds[0]?.id,
        transactionId: 'R-2',
      }),
    );
  });

  test('cancel part / all', async () => {
    const id = await placeOrder(shop);
    const cancel = (input: object) =>
      adminDoes(admin, 'cancelOrder', 'CancelOrderInput!', { orderId: id, ...input });
    const part = (await lines(id, 1)).slice(0, 1);
    await mirror.arrives('order', id, () => cancel({ lines: part, reason: 'sold out' }));
    await mirror.arrives('order', id, () => cancel({ cancelShipping: true }));
    expect(mirror.held('order', id)).toMatchObject({ state: 'Cancelled', totalQuantity: 0 });
  });

  test('cart merge at login: the merged order, once it is placed; never the carts', async () => {
    const known = shop.shopper();
    const email = newEmail();
    await newCustomer(shop, known, email);
    const own = await addToCart(known);
    const shopper = shop.shopper();
    const anonymous = await addToCart(shopper, '2', 1);
    await logIn(shopper, email);
    await mirror.staysUnsent('order', anonymous);
    await mirror.staysUnsent('order', own);
    const { activeOrder } = await shopper.run('{ activeOrder { id } }');
    await arrange(shopper);
    await pay(shopper, 'Settled');
    await mirror.converged('order', activeOrder.id);
  });

  test('draft order: set customer; with the order, once it is placed', async () => {
    const { createDraftOrder } = await admin.run('mutation { createDraftOrder { id } }');
    const { id } = createDraftOrder;
    const add = `mutation ($id: ID!) { addItemToDraftOrder(orderId: $id, input: { productVariantId: "1", quantity: 1,
      customFields: { printName: "SILVA" } }) { __typename } }`;
    await admin.run(add, { id });
    const email = newEmail();
    const setCustomer = `mutation ($id: ID!, $input: CreateCustomerInput) {
      setCustomerForDraftOrder(orderId: $id, input: $input) { __typename } }`;
    await admin.run(setCustomer, {
      id,
      input: { emailAddress: email, firstName: 'Draft', lastName: 'Buyer' },
    });
    const setAddress = `mutation ($id: ID!, $input: CreateAddressInput!) {
      setDraftOrderShippingAddress(orderId: $id, input: $input) { __typename } }`;
    await admin.run(setAddress, { id, input: ADDRESS });
    await admin.run(
      'mutation ($id: ID!) { setDraftOrderShippingMethod(orderId: $id, shippingMethodId: "1") { __typename } }',
      { id },
    );
    await mirror.staysUnsent('order', id);
    await mirror.converged('customer', await customerId(shop, email));
    await admin.run(
      'mutation ($id: ID!) { transitionOrderToState(id: $id, state: "ArrangingPayment") { __typename } }',
      {
        id,
      },
    );
    await adminDoes(admin, 'addManualPaymentToOrder', 'ManualPaymentInput!', {
      orderId: id,
      method: 'test-gateway',
      transactionId: 'M-1',
      metadata: {},
    });
    await mirror.converged('order', id);
  });

  test('seller orders split at payment', async () => {
    const id = await placeOrder(shop, 'Settled', { ...ADDRESS, company: 'Marketplace' });
    await mirror.converged('order', id);
    const rows = await shop.sql('select id from "order" where "aggregateOrderId" = $1', [id]);
    expect(rows).toHaveLength(2);
    for (const row of rows) {
      await mirror.converged('order', String(row.id));
    }
    expect(mirror.held('order', id)).toMatchObject({ type: 'Aggregate', sellerOrders: [{}, {}] });
  });

  test('delete a draft order: it was never sent', async () => {
    const { createDraftOrder } = await admin.run('mutation { createDraftOrder { id } }');
    await admin.run('mutation ($id: ID!) { deleteDraftOrder(orderId: $id) { result } }', createDraftOrder);
    await mirror.staysUnsent('order', createDraftOrder.id);
  });

  test('an order that goes back to the cart before it is placed: it was never sent', async () => {
    const shopper = shop.shopper();
    const id = await addToCart(shopper);
    await beGuest(shopper, newEmail());
    await arrange(shopper);
    await transition(shopper, 'AddingItems');
    await mirror.staysUnsent('order', id);
  });
});
