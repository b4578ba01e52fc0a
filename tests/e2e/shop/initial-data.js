'use strict';
/** What a shop needs before its first product: invented, small, and in three countries. */
const { LanguageCode } = require('@vendure/core');

/** @type {import('@vendure/core').InitialData} */
const initialData = {
    defaultLanguage: LanguageCode.en,
    defaultZone: 'South Asia',
    countries: [
        { code: 'LK', name: 'Sri Lanka', zone: 'South Asia' },
        { code: 'JP', name: 'Japan', zone: 'East Asia' },
        { code: 'KW', name: 'Kuwait', zone: 'Gulf' },
    ],
    taxRates: [
        { name: 'Standard', percentage: 18 },
        { name: 'Zero', percentage: 0 },
    ],
    shippingMethods: [
        { name: 'Courier', price: 45000 },
        { name: 'Pickup', price: 0 },
    ],
    paymentMethods: [
        { name: 'Card', handler: { code: 'test-card', arguments: [] } },
        { name: 'Cash on delivery', handler: { code: 'cash-on-delivery', arguments: [] } },
    ],
    collections: [],
};

module.exports = { initialData };
