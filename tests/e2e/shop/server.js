'use strict';
/** The shop's server: Shop API and Admin API. */
const { bootstrap } = require('@vendure/core');

const { config } = require('./config');

bootstrap(config).catch(error => {
    console.error(error);
    process.exit(1);
});
