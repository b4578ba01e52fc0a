/**
 * Remembers what a transaction touched and writes it down once, just before the commit.
 *
 * That keeps the cost at one insert for a transaction, however many rows it changed, and lets a row be looked
 * up after all its links exist. A rolled-back savepoint may take written entries with it: after any rollback
 * all entries are pending again, since one too many does no harm. Writing never throws.
 */
import { Logger } from '@vendure/core';
import type {
  EntityManager,
  EntitySubscriberInterface,
  QueryRunner,
  TransactionCommitEvent,
  TransactionRollbackEvent,
} from 'typeorm';
import { inSavepoint } from './savepoint';

interface Page<Entry> {
  pending: Map<string, Entry>;
  written: Map<string, Entry>;
}

export interface JournalOptions<Entry> {
  loggerCtx: string;
  /** The end of the sentence that is logged when writing fails: what to do about it. */
  remedy: string;
  key(entry: Entry): string;
  write(manager: EntityManager, entries: Entry[]): Promise<void>;
}

export class CommitJournal<Entry> implements EntitySubscriberInterface {
  private readonly pages = new WeakMap<QueryRunner, Page<Entry>>();

  constructor(private readonly options: JournalOptions<Entry>) {}

  /** Enter now, write before the commit; outside a transaction, write at once. */
  async enter(queryRunner: QueryRunner, entries: Entry[]): Promise<void> {
    const page = this.page(queryRunner);
    for (const entry of entries) {
      page.pending.set(this.options.key(entry), entry);
    }
    if (!queryRunner.isTransactionActive) {
      await this.flush(queryRunner);
      this.pages.delete(queryRunner);
    }
  }

  async beforeTransactionCommit({ queryRunner }: TransactionCommitEvent): Promise<void> {
    await this.flush(queryRunner);
  }

  afterTransactionCommit({ queryRunner }: TransactionCommitEvent): void {
    if (!queryRunner.isTransactionActive) {
      this.pages.delete(queryRunner);
    }
  }

  afterTransactionRollback({ queryRunner }: TransactionRollbackEvent): void {
    const page = this.pages.get(queryRunner);
    if (!queryRunner.isTransactionActive) {
      this.pages.delete(queryRunner);
    } else if (page) {
      page.pending = new Map([...page.written, ...page.pending]);
      page.written.clear();
    }
  }

  private page(queryRunner: QueryRunner): Page<Entry> {
    const page = this.pages.get(queryRunner) ?? { pending: new Map(), written: new Map() };
    this.pages.set(queryRunner, page);
    return page;
  }

  private async flush(queryRunner: QueryRunner): Promise<void> {
    const page = this.pages.get(queryRunner);
    if (!page || page.pending.size === 0) {
      return;
    }
    const entries = page.pending;
    page.pending = new Map();
    try {
      await inSavepoint(queryRunner, (manager) => this.options.write(manager, [...entries.values()]));
      page.written = new Map([...page.written, ...entries]);
    } catch (error) {
      this.report(error, [...entries.keys()]);
    }
  }

  private report(error: unknown, keys: string[]): void {
    const { loggerCtx, remedy } = this.options;
    const reason = error instanceof Error ? error.message : String(error);
    const stack = error instanceof Error ? error.stack : undefined;
    Logger.error(
      `Could not write down a change of ${keys.join(', ')}: ${reason}. ${remedy}`,
      loggerCtx,
      stack,
    );
  }
}
