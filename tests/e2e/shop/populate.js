'use strict';
/** Fill an empty database with the shop's countries, taxes, shipping and payment methods and football kits. */
const path = require('node:path');

const { bootstrap, ChannelService, CurrencyCode, RequestContextService } = require('@vendure/core');
const { importProductsFromCsv, populateInitialData } = require('@vendure/core/cli');

const { config } = require('./config');
const { initialData } = require('./initial-data');

async function useLocalCurrency(app) {
    const ctx = await app.get(RequestContextService).create({ apiType: 'admin' });
    const channels = app.get(ChannelService);
    const channel = await channels.getDefaultChannel(ctx);
    const result = await channels.update(ctx, {
        id: channel.id,
        defaultCurrencyCode: CurrencyCode.LKR,
        availableCurrencyCodes: [CurrencyCode.LKR, CurrencyCode.KWD],
        pricesIncludeTax: true,
    });
    if (!('defaultCurrencyCode' in result)) {
        throw new Error(`The default channel could not be changed: ${result.message}`);
    }
}

async function main() {
    const app = await bootstrap(config);
    await useLocalCurrency(app);
    await populateInitialData(app, initialData);
    const imported = await importProductsFromCsv(app, path.join(__dirname, 'products.csv'), initialData.defaultLanguage);
    if (imported.errors?.length) {
        throw new Error(`products.csv could not be imported: ${imported.errors.join('; ')}`);
    }
    await app.close();
}

main().then(
    () => process.exit(0),
    error => {
        console.error(error);
        process.exit(1);
    },
);
