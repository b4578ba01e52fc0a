'use strict';
/**
 * Two payment methods that need no gateway. What happens is asked for in the payment's metadata
 * (`outcome`: settle, authorize, decline, error) and in the refund's reason ("by bank transfer" takes
 * time and is settled later by an admin; "unreachable" fails).
 */
const { LanguageCode, PaymentMethodHandler } = require('@vendure/core');

let counter = 0;
const transactionId = prefix => `${prefix}-${Date.now()}-${(counter += 1)}`;

const PAYMENT_STATES = { settle: 'Settled', authorize: 'Authorized', decline: 'Declined', error: 'Error' };

/** What Vendure takes for "not settled yet": a refund is made in the state Pending, and stays in it. */
const PENDING = false;

const card = new PaymentMethodHandler({
    code: 'test-card',
    description: [{ languageCode: LanguageCode.en, value: 'A card that does as it is told' }],
    args: {},
    createPayment(ctx, order, amount, args, metadata) {
        const state = PAYMENT_STATES[metadata.outcome ?? 'settle'];
        if (!state) {
            throw new Error(`Unknown outcome "${metadata.outcome}"; use one of ${Object.keys(PAYMENT_STATES)}.`);
        }
        const refused = state === 'Declined' || state === 'Error';
        return {
            amount,
            state,
            transactionId: transactionId('card'),
            errorMessage: refused ? 'The bank refused the card' : undefined,
            metadata: { cardBrand: 'test', last4: '4242' },
        };
    },
    settlePayment: () => ({ success: true }),
    cancelPayment: () => ({ success: true }),
    createRefund(ctx, input) {
        if (input.reason === 'unreachable') {
            return { state: 'Failed', transactionId: transactionId('refund') };
        }
        return input.reason === 'by bank transfer' ? PENDING : { state: 'Settled', transactionId: transactionId('refund') };
    },
});

const cashOnDelivery = new PaymentMethodHandler({
    code: 'cash-on-delivery',
    description: [{ languageCode: LanguageCode.en, value: 'Paid to the courier' }],
    args: {},
    createPayment: (ctx, order, amount) => ({ amount, state: 'Authorized', metadata: {} }),
    settlePayment: () => ({ success: true }),
    cancelPayment: () => ({ success: true }),
    createRefund: () => PENDING,
});

module.exports = { card, cashOnDelivery };
