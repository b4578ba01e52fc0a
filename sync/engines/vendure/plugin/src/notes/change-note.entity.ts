/**
 * The outbox: one row says "this customer or order changed", written in the transaction that changed it.
 *
 * Rows are only ever added by the shop and only removed once the mirror has the change. Nothing is updated by
 * the shop's transactions, so noting takes no lock that another transaction waits for.
 */
import { DeepPartial } from '@vendure/core';
import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';

export type EntityKind = 'customer' | 'order';

@Entity('customer_sync_note')
export class ChangeNote {
  constructor(input?: DeepPartial<ChangeNote>) {
    Object.assign(this, input);
  }

  @PrimaryGeneratedColumn('increment', { type: 'bigint' })
  id!: string;

  @Column({ type: 'varchar', length: 16 })
  kind!: EntityKind;

  /** The database's own id, before the id strategy encodes it. */
  @Column({ type: 'varchar', length: 64 })
  entityId!: string;

  /** Set when a placed order was removed; without it, a missing order was a cart and is forgotten. */
  @Column({ type: 'boolean', default: false })
  deleted!: boolean;

  @Column({ type: 'timestamptz', default: () => 'clock_timestamp()' })
  notedAt!: Date;

  /** Until then the note is left alone: a sender has it in hand, or the mirror refused it. */
  @Column({ type: 'timestamptz', nullable: true })
  notBefore!: Date | null;

  /** How often the mirror refused this very note. */
  @Column({ type: 'integer', default: 0 })
  refusals!: number;
}
