/**
 * Sends every change of a Vendure shop's customers and orders to commerce-mirror.
 */
import './custom-fields';

export { CustomerSyncPlugin } from './customer-sync.plugin';
export { DeliveryStageChange } from './delivery-status/delivery-stage-change.entity';
export { DeliveryStage, DeliveryStatusPlugin } from './delivery-status/delivery-status.plugin';
export { ChangeNote, EntityKind } from './notes/change-note.entity';
export { CustomerSyncOptions } from './options';
