'use strict';
/**
 * The configuration of the test shop: everything that the server, the worker and the populating share.
 *
 * The database comes from the libpq variables (PGHOST, PGPORT, PGUSER, PGDATABASE), which `pg` reads itself.
 * What else differs between runs: SHOP_PORT, HOOK_ENDPOINT, HOOK_SECRET, and SHOP_IDS (`uuid`: ids are UUIDs, as some
 * shops have them; otherwise numbers, as Vendure makes them by default).
 */
const { CustomerSyncPlugin, DeliveryStatusPlugin } = require('@commerce-mirror/vendure-plugin');
const {
    AutoIncrementIdStrategy,
    DefaultGuestCheckoutStrategy,
    DefaultJobQueuePlugin,
    DefaultLogger,
    DefaultSchedulerPlugin,
    LogLevel,
    UuidIdStrategy,
} = require('@vendure/core');

const { card, cashOnDelivery } = require('./payments');
const { SellerChannelStrategy } = require('./sellers');

/** Read a setting, or say which one is missing. */
function setting(name) {
    const value = process.env[name];
    if (!value) {
        throw new Error(`The shop needs the environment variable ${name}; set it and start again.`);
    }
    return value;
}

/** @type {import('@vendure/core').VendureConfig} */
const config = {
    apiOptions: {
        hostname: '127.0.0.1',
        port: Number(setting('SHOP_PORT')),
        adminApiPath: 'admin-api',
        shopApiPath: 'shop-api',
        cors: false,
    },
    authOptions: {
        tokenMethod: ['bearer', 'api-key'],
        requireVerification: true,
        superadminCredentials: { identifier: 'superadmin', password: 'only-for-tests' },
    },
    dbConnectionOptions: {
        type: 'postgres',
        synchronize: process.env.SHOP_POPULATE === 'true',
        logging: false,
        uuidExtension: 'pgcrypto', // its function is in Postgres itself; no extension is needed
        installExtensions: false,
    },
    entityOptions: {
        entityIdStrategy: process.env.SHOP_IDS === 'uuid' ? new UuidIdStrategy() : new AutoIncrementIdStrategy(),
    },
    logger: new DefaultLogger({ level: LogLevel.Warn, timestamp: true }),
    orderOptions: {
        orderSellerStrategy: new SellerChannelStrategy(),
        // A guest may order with the e-mail address of an account: the case in which Vendure
        // overwrites the customer's row without an event.
        guestCheckoutStrategy: new DefaultGuestCheckoutStrategy({ allowGuestCheckoutForRegisteredCustomers: true }),
    },
    paymentOptions: { paymentMethodHandlers: [card, cashOnDelivery] },
    plugins: [
        DefaultJobQueuePlugin.init({}),
        DefaultSchedulerPlugin.init({}),
        CustomerSyncPlugin.init({
            endpoint: setting('HOOK_ENDPOINT'),
            secret: setting('HOOK_SECRET'),
            intervalMs: 50,
        }),
        DeliveryStatusPlugin,
    ],
};

module.exports = { config, setting };
