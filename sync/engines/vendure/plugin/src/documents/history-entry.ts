/**
 * An entry of an order's history, and the kind of entry that is sent: a change of the order's state.
 *
 * Vendure does not export the entity with the others.
 */
import { OrderHistoryEntry } from '@vendure/core/dist/entity/history-entry/order-history-entry.entity';

export { OrderHistoryEntry };

export const STATE_TRANSITION = 'ORDER_STATE_TRANSITION' as OrderHistoryEntry['type'];
