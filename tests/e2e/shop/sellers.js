'use strict';
/**
 * A marketplace in small: an order that holds goods of another seller is split at payment into
 * one order per seller. Goods belong to a seller when they are assigned to a channel whose code begins
 * with "seller-".
 */
const { EntityHydrator } = require('@vendure/core');

class SellerChannelStrategy {
    init(injector) {
        this.hydrator = injector.get(EntityHydrator);
    }

    async setOrderLineSellerChannel(ctx, line) {
        await this.hydrator.hydrate(ctx, line.productVariant, { relations: ['channels'] });
        return line.productVariant.channels.find(channel => channel.code.startsWith('seller-'));
    }

    splitOrder(ctx, order) {
        if (!order.lines.some(line => line.sellerChannelId)) {
            return [];
        }
        const parts = new Map();
        for (const line of order.lines) {
            const channelId = line.sellerChannelId ?? ctx.channelId;
            parts.set(channelId, [...(parts.get(channelId) ?? []), line]);
        }
        return [...parts].map(([channelId, lines], index) => ({
            channelId,
            state: 'PaymentSettled',
            lines,
            shippingLines: index === 0 ? order.shippingLines : [],
        }));
    }
}

module.exports = { SellerChannelStrategy };
