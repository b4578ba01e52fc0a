/** What a new shop needs to take an order. */
export const initialData = {
  defaultLanguage: 'en',
  defaultZone: 'Asia',
  countries: [{ name: 'Sri Lanka', code: 'LK', zone: 'Asia' }],
  taxRates: [{ name: 'Standard', percentage: 18 }],
  shippingMethods: [
    { name: 'Courier', price: 500 },
    { name: 'Express', price: 900 },
  ],
  paymentMethods: [{ name: 'Test gateway', handler: { code: 'test-gateway', arguments: [] } }],
  collections: [],
};
