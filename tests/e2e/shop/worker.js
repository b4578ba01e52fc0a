'use strict';
/** The shop's worker: background jobs, and the loop that sends the change hooks. */
const { bootstrapWorker } = require('@vendure/core');

const { config } = require('./config');

bootstrapWorker(config)
    .then(worker => worker.startJobQueue())
    .then(() => console.log('worker ready'))
    .catch(error => {
        console.error(error);
        process.exit(1);
    });
