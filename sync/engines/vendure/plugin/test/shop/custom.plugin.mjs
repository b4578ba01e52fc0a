/**
 * A shop's own plugin, which does what Vendure's APIs do not: it removes a placed order, rows and all, and it
 * rolls back a part of a transaction and commits the rest.
 * Decorators are called by hand, because Node runs this file as it is.
 */
import { Args, Mutation, Resolver } from '@nestjs/graphql';
import {
  Allow,
  Ctx,
  Customer,
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

class CustomResolver {
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

  /** Keeps the first name; a savepoint with the last name is released inside one that is rolled back. */
  async changeNamesAndRegretOne(ctx, id) {
    const save = (inner, change) =>
      this.connection.getRepository(inner, Customer).save({ id: Number(id), ...change });
    await save(ctx, { firstName: 'Kept' });
    const regret = async (middle) => {
      await this.connection.withTransaction(middle, (inner) => save(inner, { lastName: 'Regretted' }));
      throw new Error('regretted');
    };
    await this.connection.withTransaction(ctx, regret).catch(() => undefined);
    return true;
  }
}

Reflect.defineMetadata('design:paramtypes', [TransactionalConnection, OrderService], CustomResolver);
for (const name of ['removeOrderForGood', 'changeNamesAndRegretOne']) {
  const { prototype } = CustomResolver;
  Reflect.defineMetadata('design:paramtypes', [Object, String], prototype, name);
  Ctx()(prototype, name, 0);
  Args('id')(prototype, name, 1);
  for (const decorate of [Mutation(), Transaction(), Allow(Permission.SuperAdmin)]) {
    decorate(prototype, name, Object.getOwnPropertyDescriptor(prototype, name));
  }
}
Resolver()(CustomResolver);

export class CustomPlugin {}

VendurePlugin({
  imports: [PluginCommonModule],
  compatibility: '^3.0.0',
  adminApiExtensions: {
    schema: gql`
      extend type Mutation {
        removeOrderForGood(id: ID!): Boolean!
        changeNamesAndRegretOne(id: ID!): Boolean!
      }
    `,
    resolvers: [CustomResolver],
  },
})(CustomPlugin);
