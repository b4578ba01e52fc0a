/**
 * What the mirror asks the Admin API: `mirrorCount`, `mirrorSweep`, `mirrorDocuments`.
 */
import { Args, Query, Resolver } from '@nestjs/graphql';
import {
  Allow,
  ChannelService,
  Ctx,
  ForbiddenError,
  ID,
  idsAreEqual,
  Permission,
  RequestContext,
  UserInputError,
} from '@vendure/core';
import { gql } from 'graphql-tag';
import type { EntityKind } from '../notes/change-note.entity';
import { DocumentEvent, Slice, Sweeper } from '../sweep/sweeper';

const MOST_FINGERPRINTS = 1000;
const MOST_DOCUMENTS = 200;

export const mirrorSchema = gql`
  enum MirrorEntity {
    CUSTOMER
    ORDER
  }

  "An event of docs/vendure-hooks.md, as JSON."
  scalar MirrorEvent

  "A customer or an order, in the fewest words."
  type MirrorFingerprint {
    id: ID!
    "Digest of its document, or the word unreadable if the shop cannot make one."
    hash: String!
  }

  "The entities that follow a position, by their ids."
  type MirrorSweep {
    "The database's clock before the slice was read, as in hooks."
    readAt: String!
    "How many entities there are in the slice, counted by the database."
    counted: Int!
    fingerprints: [MirrorFingerprint!]!
    "Where the next slice begins; null: this was the last one."
    position: String
  }

  extend type Query {
    "How many customers there are, or placed orders; with since, of those placed, made or touched after that."
    mirrorCount(entity: MirrorEntity!, since: DateTime): Int!
    "Up to ${MOST_FINGERPRINTS} of the same, after a position."
    mirrorSweep(entity: MirrorEntity!, position: String, since: DateTime, limit: Int!): MirrorSweep!
    "What hooks would say of up to ${MOST_DOCUMENTS} entities now. What the shop does not have is said to be deleted."
    mirrorDocuments(entity: MirrorEntity!, ids: [ID!]!): [MirrorEvent!]!
  }
`;

type Entity = 'CUSTOMER' | 'ORDER';

const KINDS: Record<Entity, EntityKind> = { CUSTOMER: 'customer', ORDER: 'order' };
const PERMISSIONS: Record<Entity, Permission> = {
  CUSTOMER: Permission.ReadCustomer,
  ORDER: Permission.ReadOrder,
};

interface SweepArguments {
  entity: Entity;
  position?: string | null;
  since?: Date | null;
  limit: number;
}

@Resolver()
export class MirrorResolver {
  constructor(
    private readonly sweeper: Sweeper,
    private readonly channels: ChannelService,
  ) {}

  @Query()
  @Allow(Permission.ReadCustomer, Permission.ReadOrder)
  async mirrorCount(
    @Ctx() ctx: RequestContext,
    @Args() { entity, since }: { entity: Entity; since?: Date | null },
  ): Promise<number> {
    await this.check(ctx, entity);
    return this.sweeper.count(KINDS[entity], since ?? undefined);
  }

  @Query()
  @Allow(Permission.ReadCustomer, Permission.ReadOrder)
  async mirrorSweep(
    @Ctx() ctx: RequestContext,
    @Args() { entity, position, since, limit }: SweepArguments,
  ): Promise<Slice> {
    await this.check(ctx, entity);
    if (limit < 1 || limit > MOST_FINGERPRINTS) {
      throw new UserInputError(`limit: must be from 1 to ${MOST_FINGERPRINTS}`);
    }
    const slice = await this.sweeper.sweep(KINDS[entity], limit, position ?? undefined, since ?? undefined);
    if (!slice) {
      throw new UserInputError('position: must be one that mirrorSweep answered');
    }
    return slice;
  }

  @Query()
  @Allow(Permission.ReadCustomer, Permission.ReadOrder)
  async mirrorDocuments(
    @Ctx() ctx: RequestContext,
    @Args() { entity, ids }: { entity: Entity; ids: ID[] },
  ): Promise<DocumentEvent[]> {
    await this.check(ctx, entity);
    if (ids.length > MOST_DOCUMENTS) {
      throw new UserInputError(`ids: must be ${MOST_DOCUMENTS} at the most`);
    }
    return this.sweeper.documents(KINDS[entity], ids);
  }

  /** The answers hold what is in every channel, so the permission must be that of the default channel, which does, too. */
  private async check(ctx: RequestContext, entity: Entity): Promise<void> {
    const everything = await this.channels.getDefaultChannel();
    if (!idsAreEqual(ctx.channelId, everything.id) || !ctx.userHasPermissions([PERMISSIONS[entity]])) {
      throw new ForbiddenError();
    }
  }
}
