/**
 * Keeps shoppers from writing custom fields that are not public.
 *
 * `public: false` alone does not: where no custom field of an entity is public, Vendure's Shop API takes
 * `customFields` of that entity as free JSON and stores what it finds (seen with 3.7.3: `updateCustomer` could set
 * `phoneVerified`). This holds for every field that the shop itself declares as not public, too.
 */
import { CallHandler, ExecutionContext, Injectable, NestInterceptor } from '@nestjs/common';
import { GqlExecutionContext } from '@nestjs/graphql';
import { ConfigService, CustomFields, ForbiddenError, Logger } from '@vendure/core';
import { GraphQLInputType, GraphQLResolveInfo, getNamedType } from 'graphql';
import type { Observable } from 'rxjs';

const INPUT = /^(?:Create|Update)(\w+)Input$/;

@Injectable()
export class PrivateFieldsInterceptor implements NestInterceptor {
  constructor(private readonly config: ConfigService) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (context.getType<string>() === 'graphql') {
      const graphql = GqlExecutionContext.create(context);
      this.check(graphql.getInfo<GraphQLResolveInfo>(), graphql.getArgs());
    }
    return next.handle();
  }

  private check({ schema, parentType, fieldName }: GraphQLResolveInfo, args: Record<string, unknown>): void {
    if (parentType !== schema.getMutationType() || schema.getQueryType()?.getFields().administrators) {
      return;
    }
    for (const { name, type } of parentType.getFields()[fieldName]?.args ?? []) {
      const [field] = this.privateFields(type, args[name]);
      if (field) {
        Logger.warn(`A shopper tried to set the custom field "${field}" by ${fieldName}.`, 'CustomerSync');
        throw new ForbiddenError();
      }
    }
  }

  /** The custom fields in an argument that are not the shopper's to set. */
  private privateFields(type: GraphQLInputType, value: unknown): string[] {
    const entity = INPUT.exec(getNamedType(type).name)?.[1];
    const given = Object.keys((value as { customFields?: object } | undefined)?.customFields ?? {});
    const fields = this.config.customFields[entity as keyof CustomFields] ?? [];
    const hidden = fields.filter((field) => field.public === false || field.internal);
    return given.filter((name) => hidden.some((field) => field.name === name || `${field.name}Id` === name));
  }
}
