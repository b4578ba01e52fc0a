/**
 * DeliveryStatusPlugin: the five delivery stages and the tracking number of an order, and their history.
 *
 * Works without CustomerSyncPlugin; together, both fields and the history are part of what is sent.
 */

import { OnApplicationBootstrap } from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import {
  CustomFieldConfig,
  LanguageCode,
  PluginCommonModule,
  TransactionalConnection,
  VendurePlugin,
} from '@vendure/core';
import { PrivateFieldsInterceptor } from '../api/private-fields.interceptor';
import { addFields } from '../own-fields';
import { DeliveryStageChange } from './delivery-stage-change.entity';
import { adminApiSchema, StageResolver } from './stage.resolver';
import { StageWatch } from './stage-watch';

const STAGES = [
  ['ORDER_CONFIRMED', 'Order confirmed'],
  ['SOURCING', 'Sourcing'],
  ['ARRIVED', 'Arrived'],
  ['DISPATCHED', 'Dispatched'],
  ['DELIVERED', 'Delivered'],
] as const;

export type DeliveryStage = (typeof STAGES)[number][0];

const en = (value: string) => [{ languageCode: LanguageCode.en, value }];

const ORDER_FIELDS: CustomFieldConfig[] = [
  {
    name: 'deliveryStage',
    type: 'string',
    public: false,
    nullable: true,
    label: en('Delivery stage'),
    options: STAGES.map(([value, label]) => ({ value, label: en(label) })),
  },
  { name: 'trackingNumber', type: 'string', public: false, nullable: true, label: en('Tracking number') },
];

@VendurePlugin({
  imports: [PluginCommonModule],
  entities: [DeliveryStageChange],
  providers: [{ provide: APP_INTERCEPTOR, useClass: PrivateFieldsInterceptor }],
  adminApiExtensions: { schema: adminApiSchema, resolvers: [StageResolver] },
  compatibility: '^3.0.0',
  configuration: (config) => {
    addFields(config.customFields, 'Order', ORDER_FIELDS);
    return config;
  },
})
export class DeliveryStatusPlugin implements OnApplicationBootstrap {
  constructor(private readonly connection: TransactionalConnection) {}

  onApplicationBootstrap(): void {
    new StageWatch().watch(this.connection.rawConnection);
  }
}
