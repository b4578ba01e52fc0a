/** `node main.mjs populate | server | worker`: prints "ready" when it is. */

import { fileURLToPath } from 'node:url';
import { bootstrap, bootstrapWorker, Logger } from '@vendure/core';
import { populate } from '@vendure/core/cli/index.js';
import { config } from './config.mjs';
import { initialData } from './initial-data.mjs';

const roles = {
  async populate() {
    const products = fileURLToPath(new URL('products.csv', import.meta.url));
    const app = await populate(() => bootstrap(config), initialData, products);
    await app.close();
    process.exit(0);
  },
  async server() {
    const app = await bootstrap(config);
    app.enableShutdownHooks();
  },
  async worker() {
    const { app } = await bootstrapWorker(config);
    app.enableShutdownHooks();
  },
};

await roles[process.argv[2]]();
Logger.flush?.();
console.log('ready');
