/**
 * A shop's own plugin that does what Vendure's APIs do not: it removes a placed order, rows and all.
 * Decorators are called by hand, because Node runs this file as it is.
 */
import { Args, Mutation, Resolver } from '@nestjs/graphql';
import {
  Allow,
  Ctx,
  Order,
  OrderService,
  Payment,
  Permission,
  PluginCommonModule,
  Transaction,
  TransactionalConnection,
  VendurePlugin,
} from '@vendure/core';
import { gql } from 'graphql-tag';

class RemovalResolver {
  constructor(connection, orders) {
    this.connection = connection;
    this.orders = orders;
  }

  async removeOrderForGood(ctx, id) {
    const order = await this.connection.getEntityOrThrow(ctx, Order, id, { relations: ['payments'] });
    await this.connection.getRepository(ctx, Payment).remove(order.payments);
    await this.connection
      .getRepository(ctx, Order)
      .query(
        'delete from stock_movement using order_line l where l.id = "orderLineId" and l."orderId" = $1',
        [id],
      );
    await this.orders.deleteOrder(ctx, id);
    return true;
  }
}

const name = 'removeOrderForGood';
const method = Object.getOwnPropertyDescriptor(RemovalResolver.prototype, name);
Reflect.defineMetadata('design:paramtypes', [TransactionalConnection, OrderService], RemovalResolver);
Reflect.defineMetadata('design:paramtypes', [Object, String], RemovalResolver.prototype, name);
Ctx()(RemovalResolver.prototype, name, 0);
Args('id')(RemovalResolver.prototype, name, 1);
for (const decorate of [Mutation(), Transaction(), Allow(Permission.DeleteOrder)]) {
  decorate(RemovalResolver.prototype, name, method);
}
Resolver()(RemovalResolver);

export class RemovalPlugin {}

VendurePlugin({
  imports: [PluginCommonModule],
  compatibility: '^3.0.0',
  adminApiExtensions: {
    schema: gql`
      extend type Mutation {
        removeOrderForGood(id: ID!): Boolean!
      }
    `,
    resolvers: [RemovalResolver],
  },
})(RemovalPlugin);
