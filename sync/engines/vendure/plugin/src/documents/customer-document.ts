/**
 * A customer as docs/vendure-hooks.md describes it: the shape of Vendure's Admin API.
 */
import { Address, Customer } from '@vendure/core';
import { DocumentContext, Json } from './document-context';
import { oldestFirst } from './oldest-first';
import { pick } from './pick';

/** What has to be loaded for `customerDocument`. */
export const CUSTOMER_RELATIONS = {
  user: true,
  groups: true,
  addresses: { country: { translations: true } },
} as const;

const POSTAL = [
  'fullName',
  'company',
  'streetLine1',
  'streetLine2',
  'city',
  'province',
  'postalCode',
] as const;
const PERSON = ['title', 'firstName', 'lastName', 'emailAddress', 'phoneNumber'] as const;

export function customerDocument(context: DocumentContext, customer: Customer): Json {
  const { user } = customer;
  return {
    id: context.id(customer.id),
    ...pick(customer, ['createdAt', 'updatedAt', ...PERSON]),
    user: user ? { id: context.id(user.id), ...pick(user, ['identifier', 'verified']) } : null,
    addresses: oldestFirst(customer.addresses).map((address) => addressDocument(context, address)),
    groups: oldestFirst(customer.groups).map(({ id, name }) => ({ id: context.id(id), name })),
    customFields: context.customFields('Customer', customer.customFields),
  };
}

function addressDocument(context: DocumentContext, address: Address): Json {
  const { country } = address;
  return {
    id: context.id(address.id),
    ...pick(address, [...POSTAL, 'phoneNumber', 'defaultShippingAddress', 'defaultBillingAddress']),
    country: country ? { code: country.code, name: context.name(country) } : null,
    customFields: context.customFields('Address', address.customFields),
  };
}
