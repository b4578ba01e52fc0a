/**
 * A shop and a receiver that mirrors it, and the one claim that most tests make: after this action, the mirror
 * holds what the Admin API says.
 */
import { expect, inject } from 'vitest';
import type { CustomerSyncOptions } from '../../src/options';
import { adminDocument, comparable, type Kind } from './admin-documents';
import { eventually, Receiver, SECRET } from './receiver';
import { type Client, Shop } from './shop';
import { adminDoes, newEmail } from './story';

export class MirroredShop {
  admin!: Client;

  private constructor(
    readonly shop: Shop,
    readonly receiver: Receiver,
  ) {}

  static async create(options: Partial<CustomerSyncOptions> = {}): Promise<MirroredShop> {
    const receiver = await new Receiver().listen();
    const sync = { endpoint: receiver.endpoint, secret: SECRET, intervalMs: 20, ...options };
    return new MirroredShop(await Shop.create(inject('databaseUrl'), sync), receiver);
  }

  async open(...roles: Array<'server' | 'worker'>): Promise<this> {
    await this.shop.start(...roles);
    this.admin = await this.shop.admin();
    return this;
  }

  async close(): Promise<void> {
    await this.shop.remove();
    await this.receiver.close();
    expect(this.receiver.signatureFaults).toEqual([]);
  }

  held(kind: Kind, id: string): unknown {
    return comparable(this.receiver.newest(kind, id)?.data);
  }

  /** Wait until the mirror holds what the Admin API says of the entity. */
  async converged(kind: Kind, id: string): Promise<void> {
    const document = await adminDocument(this.admin, kind, id);
    expect(document).not.toBeNull();
    await eventually(() => expect(this.held(kind, id)).toEqual(document));
  }

  /** Do something that changes the entity, and see the change arrive; not by an earlier note still on its way. */
  async arrives(kind: Kind, id: string, action: () => Promise<unknown>): Promise<void> {
    await this.settled();
    await this.converged(kind, id);
    const before = this.held(kind, id);
    await action();
    await this.converged(kind, id);
    expect(this.held(kind, id)).not.toEqual(before);
  }

  /** Wait until everything noted so far is sent: a later change has arrived and no note is left. */
  async settled(): Promise<void> {
    const emailAddress = newEmail();
    await adminDoes(this.admin, 'createCustomer', 'CreateCustomerInput!', {
      emailAddress,
      firstName: 'Last',
      lastName: 'Change',
    });
    await eventually(() =>
      expect(this.receiver.events.some(({ data }) => data?.emailAddress === emailAddress)).toBe(true),
    );
    await eventually(async () => expect(await this.shop.sql('select * from customer_sync_note')).toEqual([]));
  }

  /** The mirror never hears of the entity. */
  async staysUnsent(kind: Kind, id: string): Promise<void> {
    await this.settled();
    expect(this.receiver.newest(kind, id)).toBeUndefined();
  }
}
