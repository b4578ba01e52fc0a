/**
 * Every delivery stage and tracking number that an order has had, in the order it had them.
 */
import { DeepPartial, EntityId, ID, Order, VendureEntity } from '@vendure/core';
import { Column, Entity, Index, ManyToOne } from 'typeorm';

@Entity('delivery_stage_change')
export class DeliveryStageChange extends VendureEntity {
  constructor(input?: DeepPartial<DeliveryStageChange>) {
    super(input);
  }

  @Index()
  @ManyToOne(() => Order, { onDelete: 'CASCADE' })
  order!: Order;

  @EntityId()
  orderId!: ID;

  @Column({ type: 'varchar', nullable: true })
  stage!: string | null;

  @Column({ type: 'varchar', nullable: true })
  trackingNumber!: string | null;

  @Column({ type: 'timestamptz', default: () => 'clock_timestamp()' })
  changedAt!: Date;
}
