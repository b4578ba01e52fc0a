/**
 * An order as docs/vendure-hooks.md describes it: the shape of Vendure's Admin API.
 *
 * Payments come without their metadata, which holds what the gateway said. Of the customer only the id is told: a
 * change of a customer is none of their orders.
 */
import { Fulfillment, Order, OrderLine, Payment, ShippingLine } from '@vendure/core';
import type { DeliveryStageChange } from '../delivery-status/delivery-stage-change.entity';
import { DocumentContext, Json } from './document-context';
import type { OrderHistoryEntry } from './history-entry';
import { oldestFirst } from './oldest-first';
import { pick } from './pick';

/** What has to be loaded for `orderDocument`; totals and discounts are computed from lines and surcharges. */
export const ORDER_RELATIONS = {
  customer: true,
  surcharges: true,
  lines: { productVariant: { translations: true, product: { translations: true } } },
  shippingLines: { shippingMethod: true },
  payments: { refunds: true },
  fulfillments: { lines: true },
} as const;

const HEAD = [
  'code',
  'type',
  'state',
  'active',
  'orderPlacedAt',
  'createdAt',
  'updatedAt',
  'currencyCode',
] as const;
const TOTALS = [
  'totalQuantity',
  'couponCodes',
  'subTotal',
  'subTotalWithTax',
  'shipping',
  'shippingWithTax',
  'total',
  'totalWithTax',
] as const;
const ADDRESS = [
  'fullName',
  'company',
  'streetLine1',
  'streetLine2',
  'city',
  'province',
  'postalCode',
  'country',
  'countryCode',
  'phoneNumber',
] as const;
const LINE = [
  'quantity',
  'orderPlacedQuantity',
  'unitPrice',
  'unitPriceWithTax',
  'linePriceWithTax',
  'discountedLinePriceWithTax',
  'proratedLinePriceWithTax',
] as const;

/** What stands in other orders, in the orders' histories, and in the table of DeliveryStatusPlugin. */
export interface OrderExtras {
  stages: DeliveryStageChange[];
  /** Only changes of the order's state: notes and what else a history holds stay in the shop. */
  transitions: OrderHistoryEntry[];
  sellerOrders: Order[];
}

export function orderDocument(context: DocumentContext, row: Order, extras: OrderExtras): Json {
  const order = arranged(row);
  const { aggregateOrderId, shippingAddress, billingAddress } = order;
  return {
    id: context.id(order.id),
    ...pick(order, [...HEAD, ...TOTALS]),
    discounts: order.discounts.map((discount) => pick(discount, ['description', 'amount', 'amountWithTax'])),
    customer: order.customer ? { id: context.id(order.customer.id) } : null,
    shippingAddress: pick(shippingAddress ?? {}, ADDRESS),
    billingAddress: pick(billingAddress ?? {}, ADDRESS),
    shippingLines: order.shippingLines.map((line) => shippingLineDocument(context, line)),
    lines: order.lines.map((line) => lineDocument(context, line)),
    payments: oldestFirst(order.payments).map((payment) => paymentDocument(context, payment)),
    fulfillments: oldestFirst(order.fulfillments).map((fulfillment) =>
      fulfillmentDocument(context, fulfillment),
    ),
    aggregateOrder: aggregateOrderId ? { id: context.id(aggregateOrderId) } : null,
    sellerOrders: extras.sellerOrders.map(({ id }) => ({ id: context.id(id) })),
    customFields: context.customFields('Order', order.customFields),
    history: { items: extras.transitions.map((entry) => transitionDocument(context, entry)) },
    deliveryStageChanges: extras.stages.map((change) => stageDocument(context, change)),
  };
}

/** Discounts are listed as the order finds them in its lines, so these are put in order first. */
function arranged(order: Order): Order {
  order.lines = oldestFirst(order.lines);
  order.shippingLines = oldestFirst(order.shippingLines);
  order.surcharges = oldestFirst(order.surcharges);
  return order;
}

function shippingLineDocument(context: DocumentContext, line: ShippingLine): Json {
  const method = line.shippingMethod;
  return {
    shippingMethod: method ? { code: method.code, name: context.name(method) } : null,
    priceWithTax: line.priceWithTax,
  };
}

function lineDocument(context: DocumentContext, line: OrderLine): Json {
  const variant = line.productVariant;
  return {
    id: context.id(line.id),
    ...pick(line, LINE),
    productVariant: {
      id: context.id(variant.id),
      sku: variant.sku,
      name: context.name(variant),
      product: { id: context.id(variant.product.id), name: context.name(variant.product) },
    },
    customFields: context.customFields('OrderLine', line.customFields),
  };
}

function paymentDocument(context: DocumentContext, payment: Payment): Json {
  return {
    id: context.id(payment.id),
    ...pick(payment, ['method', 'amount', 'state', 'transactionId', 'errorMessage', 'createdAt']),
    refunds: oldestFirst(payment.refunds).map((refund) => ({
      id: context.id(refund.id),
      ...pick(refund, ['total', 'state', 'reason', 'transactionId', 'createdAt']),
    })),
  };
}

function fulfillmentDocument(context: DocumentContext, fulfillment: Fulfillment): Json {
  return {
    id: context.id(fulfillment.id),
    ...pick(fulfillment, ['state', 'method', 'trackingCode', 'createdAt', 'updatedAt']),
    lines: oldestFirst(fulfillment.lines).map(({ orderLineId, quantity }) => ({
      orderLineId: context.id(orderLineId),
      quantity,
    })),
  };
}

function transitionDocument(
  context: DocumentContext,
  { id, type, createdAt, data }: OrderHistoryEntry,
): Json {
  return { id: context.id(id), type, createdAt, data: { from: data?.from ?? null, to: data?.to ?? null } };
}

function stageDocument(context: DocumentContext, change: DeliveryStageChange): Json {
  return { id: context.id(change.id), ...pick(change, ['stage', 'trackingNumber', 'changedAt']) };
}
