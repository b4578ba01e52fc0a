/**
 * A small real shop: two seasons of one shirt, a gateway that does what its metadata says, and both plugins.
 * Everything that a test varies comes from the environment.
 */
import {
  AutoIncrementIdStrategy,
  DefaultLogger,
  dummyPaymentHandler,
  LanguageCode,
  LogLevel,
  NoopLogger,
  PaymentMethodHandler,
} from '@vendure/core';
import { CustomerSyncPlugin, DeliveryStatusPlugin } from '../../dist/index.js';
import { CustomPlugin } from './custom.plugin.mjs';

const { SHOP_DATABASE_URL, SHOP_IDS, SHOP_PORT, SHOP_SYNC, SHOP_SYNCHRONIZE } = process.env;

/** Authorizes, settles or declines by `metadata.outcome`; refunds stay pending until they are settled. */
const gateway = new PaymentMethodHandler({
  code: 'test-gateway',
  description: [{ languageCode: LanguageCode.en, value: 'Test gateway' }],
  args: {},
  createPayment: (_ctx, _order, amount, _args, metadata) => ({
    amount,
    state: metadata.outcome,
    transactionId: 'T-1',
    errorMessage: metadata.outcome === 'Declined' ? 'card declined' : undefined,
    metadata: { cardNumber: 'never to be sent' },
  }),
  settlePayment: () => ({ success: true }),
  createRefund: () => false,
});

/** Ids that do not look like the database's own. */
class EncodedIdStrategy {
  primaryKeyType = 'increment';
  encodeId = (id) => `T_${id}`;
  decodeId = (id) => Number(id.replace(/^T_/, ''));
}

/** An order to "Marketplace" becomes one seller order a line. */
const marketplace = {
  setOrderLineSellerChannel: () => undefined,
  splitOrder: (ctx, order) =>
    order.shippingAddress?.company !== 'Marketplace'
      ? []
      : order.lines.map((line) => ({
          channelId: ctx.channelId,
          shippingLines: [],
          lines: [line],
          state: 'PaymentSettled',
        })),
};

export const config = {
  apiOptions: {
    port: Number(SHOP_PORT ?? 0),
    hostname: '127.0.0.1',
    adminApiPath: 'admin-api',
    shopApiPath: 'shop-api',
  },
  authOptions: {
    tokenMethod: ['bearer'],
    requireVerification: true,
    superadminCredentials: { identifier: 'superadmin', password: 'superadmin' },
    cookieOptions: { secret: 'a test has no cookies' },
  },
  dbConnectionOptions: {
    type: 'postgres',
    url: SHOP_DATABASE_URL,
    synchronize: SHOP_SYNCHRONIZE === 'yes',
    logging: false,
  },
  entityOptions: {
    entityIdStrategy: SHOP_IDS === 'encoded' ? new EncodedIdStrategy() : new AutoIncrementIdStrategy(),
  },
  logger: SHOP_SYNC ? new DefaultLogger({ level: LogLevel.Info, timestamp: false }) : new NoopLogger(),
  // None is public: then Vendure's Shop API takes any custom field, as free JSON.
  customFields: { Order: [{ name: 'giftNote', type: 'string', public: false }] },
  orderOptions: { orderSellerStrategy: marketplace },
  paymentOptions: { paymentMethodHandlers: [gateway, dummyPaymentHandler] },
  promotionOptions: {},
  plugins: [
    CustomerSyncPlugin.init(
      SHOP_SYNC
        ? JSON.parse(SHOP_SYNC)
        : { endpoint: 'http://127.0.0.1:9/none', secret: `whsec_${'A'.repeat(32)}` },
    ),
    DeliveryStatusPlugin,
    CustomPlugin,
  ],
};
