/**
 * The types of the custom fields that both plugins register, for this package and for the shop's own code.
 */
import type { DeliveryStage } from './delivery-status/delivery-status.plugin';

declare module '@vendure/core/dist/entity/custom-entity-fields' {
  interface CustomOrderFields {
    deliveryStage?: DeliveryStage | null;
    trackingNumber?: string | null;
  }
  interface CustomCustomerFields {
    phoneVerified?: boolean;
    marketingConsent?: boolean;
  }
  interface CustomOrderLineFields {
    patchEnabled?: boolean;
    patchType?: string | null;
    printName?: string | null;
    printNumber?: string | null;
    preOrder?: boolean;
  }
}
