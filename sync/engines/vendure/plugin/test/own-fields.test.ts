/**
 * A shop may have had a field of the same name before: a tracking number, more often than not.
 */
import type { CustomFieldConfig, CustomFields } from '@vendure/core';
import { expect, test } from 'vitest';
import { addFields } from '../src/own-fields';

const OURS: CustomFieldConfig[] = [
  { name: 'deliveryStage', type: 'string', public: false },
  { name: 'trackingNumber', type: 'string', public: false },
];

function withOwn(own: CustomFieldConfig): CustomFieldConfig[] | undefined {
  const fields: CustomFields = { Order: [own] };
  addFields(fields, 'Order', OURS);
  return fields.Order;
}

test('adds what the shop does not have, and keeps what it has', () => {
  const own: CustomFieldConfig = { name: 'trackingNumber', type: 'text', public: false };
  expect(withOwn(own)).toEqual([own, OURS[0]]);
  const another: CustomFieldConfig = { name: 'giftMessage', type: 'string' };
  expect(withOwn(another)).toEqual([another, ...OURS]);
});

test.each<[string, CustomFieldConfig]>([
  ['another type', { name: 'trackingNumber', type: 'int', public: false }],
  ['a list', { name: 'trackingNumber', type: 'string', public: false, list: true }],
  ['an internal one', { name: 'trackingNumber', type: 'string', internal: true, public: false }],
  [
    'one that the mirror may not set',
    { name: 'trackingNumber', type: 'string', public: false, readonly: true },
  ],
  ['one that shoppers may set', { name: 'trackingNumber', type: 'string' }],
])('refuses %s, and says which field', (_, own) => {
  expect(() => withOwn(own)).toThrow(
    /Order\.trackingNumber must be of the type string, no list, and neither public nor readonly nor internal/,
  );
});
