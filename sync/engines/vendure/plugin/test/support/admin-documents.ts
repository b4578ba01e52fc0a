/**
 * What the Admin API says of a customer and of an order: exactly the fields of docs/vendure-hooks.md.
 */
import type { Client } from './shop';

const ADDRESS = `fullName company streetLine1 streetLine2 city province postalCode country countryCode phoneNumber`;

const ORDER = `query ($id: ID!) { order(id: $id) {
  id code type state active orderPlacedAt createdAt updatedAt currencyCode totalQuantity couponCodes
  subTotal subTotalWithTax shipping shippingWithTax total totalWithTax
  discounts { description amount amountWithTax }
  customer { id }
  shippingAddress { ${ADDRESS} } billingAddress { ${ADDRESS} }
  shippingLines { shippingMethod { code name } priceWithTax }
  lines { id quantity orderPlacedQuantity unitPrice unitPriceWithTax linePriceWithTax discountedLinePriceWithTax
    proratedLinePriceWithTax productVariant { id sku name product { id name } }
    customFields { patchEnabled patchType printName printNumber preOrder } }
  payments { id method amount state transactionId errorMessage createdAt
    refunds { id total state reason transactionId createdAt } }
  fulfillments { id state method trackingCode createdAt updatedAt lines { orderLineId quantity } }
  aggregateOrder { id } sellerOrders { id }
  customFields { giftNote deliveryStage trackingNumber }
  history(options: { filter: { type: { eq: "ORDER_STATE_TRANSITION" } } }) { items { id type createdAt data } }
  deliveryStageChanges { id stage trackingNumber changedAt }
} }`;

const CUSTOMER = `query ($id: ID!) { customer(id: $id) {
  id createdAt updatedAt title firstName lastName emailAddress phoneNumber
  user { id identifier verified }
  addresses { id fullName company streetLine1 streetLine2 city province postalCode country { code name } phoneNumber
    defaultShippingAddress defaultBillingAddress }
  groups { id name } customFields { phoneVerified marketingConsent }
} }`;

const DOCUMENTS = { order: ORDER, customer: CUSTOMER };

export type Kind = keyof typeof DOCUMENTS;

/** The document, or `null` if the Admin API does not show the entity. */
export async function adminDocument(admin: Client, kind: Kind, id: string): Promise<unknown> {
  const answer = await admin.run(DOCUMENTS[kind], { id });
  return answer[kind] ? comparable(answer[kind]) : null;
}

/**
 * Absent and `null` mean the same, and so do lists that have no order of their own in another order; the address
 * of an Admin API document has no custom fields here because the shop registers none.
 */
// biome-ignore lint/suspicious/noExplicitAny: documents are compared as JSON
export function comparable(value: any): any {
  if (Array.isArray(value)) {
    const byId = (one: { id?: string }, other: { id?: string }) =>
      Number(one?.id ?? 0) - Number(other?.id ?? 0);
    return value.map(comparable).sort(byId);
  }
  if (value === null || typeof value !== 'object') {
    return value;
  }
  const kept = Object.entries(value).map(([key, inner]) => [key, comparable(inner)] as const);
  const full = kept.filter(
    ([, inner]) => inner !== null && !(isObject(inner) && Object.keys(inner).length === 0),
  );
  return Object.fromEntries(full);
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
