/**
 * `Order.deliveryStageChanges` in the Admin API.
 */
import { Parent, ResolveField, Resolver } from '@nestjs/graphql';
import { Allow, Ctx, Order, Permission, RequestContext, TransactionalConnection } from '@vendure/core';
import { gql } from 'graphql-tag';
import { DeliveryStageChange } from './delivery-stage-change.entity';

export const adminApiSchema = gql`
  "A delivery stage and tracking number that an order has had."
  type DeliveryStageChange {
    id: ID!
    stage: String
    trackingNumber: String
    changedAt: DateTime!
  }

  extend type Order {
    "Every delivery stage and tracking number this order has had, oldest first."
    deliveryStageChanges: [DeliveryStageChange!]!
  }
`;

@Resolver('Order')
export class StageResolver {
  constructor(private readonly connection: TransactionalConnection) {}

  @ResolveField()
  @Allow(Permission.ReadOrder)
  deliveryStageChanges(@Ctx() ctx: RequestContext, @Parent() order: Order): Promise<DeliveryStageChange[]> {
    const changes = this.connection.getRepository(ctx, DeliveryStageChange);
    return changes.find({ where: { orderId: order.id }, order: { changedAt: 'ASC', id: 'ASC' } });
  }
}
