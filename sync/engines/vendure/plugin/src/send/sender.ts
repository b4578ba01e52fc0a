/**
 * One round: claim notes, read what they point to, post it, forget the notes.
 *
 * The order is what makes it safe. Notes are claimed first, the clock is read next and the state last, so
 * `readAt` is never later than the state. Notes are forgotten only after a 2xx, so a process that dies anywhere
 * in between sends again and loses nothing.
 */
import { randomBytes } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { Logger } from '@vendure/core';
import { DocumentReader } from '../documents/document-reader';
import { NoteQueue } from '../notes/note-queue';
import { LOGGER_CTX } from '../notes/notebook';
import { OPTIONS, ResolvedOptions } from '../options';
import { backoffMs } from './backoff';
import { Change, collapse, OutgoingEvent, slice, toEvent, wanted } from './change';
import { Endpoint, Outcome } from './endpoint';

type Unavailable = Extract<Outcome, { kind: 'unavailable' }>;

/** How a round went: how many notes it took, and why it had to stop, if it had to. */
export interface Round {
  claimed: number;
  outage?: Unavailable;
}

@Injectable()
export class Sender {
  /** New in every process: see `eventId`. */
  private readonly runId = randomBytes(8).toString('hex');

  constructor(
    @Inject(OPTIONS) private readonly options: ResolvedOptions,
    private readonly queue: NoteQueue,
    private readonly reader: DocumentReader,
    private readonly endpoint: Endpoint,
  ) {}

  async round(): Promise<Round> {
    const { notes, readAt } = await this.queue.claim(this.limit, this.leaseMs);
    const changes = collapse(notes);
    const { batchSize } = this.options;
    const outages = await Promise.all(
      Array.from({ length: Math.ceil(changes.length / batchSize) }, (_, n) =>
        this.attempt(changes.slice(n * batchSize, (n + 1) * batchSize), readAt),
      ),
    );
    return { claimed: notes.length, outage: outages.find(Boolean) };
  }

  /** A round that took this many notes was full: more may be waiting. */
  get limit(): number {
    return this.options.batchSize * this.options.concurrency;
  }

  /** Longer than an attempt takes. A note whose lease lapses too early is sent twice, which does no harm. */
  private get leaseMs(): number {
    return this.options.timeoutMs * 3;
  }

  private async attempt(changes: Change[], readAt: string): Promise<Unavailable | undefined> {
    try {
      return await this.deliver(changes, readAt);
    } catch (error) {
      await this.queue.release(notesOf(changes)).catch(() => undefined);
      throw error;
    }
  }

  private async deliver(changes: Change[], readAt: string): Promise<Unavailable | undefined> {
    const events = await this.events(changes, readAt);
    let outage: Unavailable | undefined;
    for (const part of slice(events, this.options.batchSize)) {
      outage = await this.post(part, outage);
    }
    return outage;
  }

  /** What is to be posted; of what is not, the notes are forgotten. Unreadable: halve until the culprit is alone. */
  private async events(changes: Change[], readAt: string): Promise<OutgoingEvent[]> {
    let events: OutgoingEvent[];
    try {
      const states = await this.reader.read(wanted(changes));
      events = changes.flatMap((change) => toEvent(this.runId, change, states, readAt) ?? []);
    } catch (error) {
      if (changes.length === 1) {
        await this.setAside(changes[0] as Change, 'The shop could not read', String(error));
        return [];
      }
      const half = Math.ceil(changes.length / 2);
      const first = await this.events(changes.slice(0, half), readAt);
      return [...first, ...(await this.events(changes.slice(half), readAt))];
    }
    const sent = new Set(events.map(({ change }) => change));
    await this.queue.forget(notesOf(changes.filter((change) => !sent.has(change))));
    return events;
  }

  /** Post and settle; after an outage give the notes back without a try. Refused: halve until the culprit is alone. */
  private async post(events: OutgoingEvent[], before?: Unavailable): Promise<Unavailable | undefined> {
    const outcome = before ?? (await this.endpoint.post(events));
    if (outcome.kind === 'unavailable') {
      await this.queue.release(notesOf(events.map(({ change }) => change)));
      return outcome;
    }
    if (outcome.kind === 'accepted') {
      await this.queue.forget(notesOf(events.map(({ change }) => change)));
    } else if (events.length === 1) {
      await this.setAside((events[0] as OutgoingEvent).change, 'The mirror refused', outcome.reason);
    } else {
      const half = Math.ceil(events.length / 2);
      return this.post(events.slice(half), await this.post(events.slice(0, half)));
    }
    return undefined;
  }

  private async setAside({ kind, entityId, notes }: Change, what: string, reason: string): Promise<void> {
    const refusals = Math.max(...notes.map((note) => note.refusals));
    await this.queue.defer(notes, backoffMs(refusals));
    if (refusals === 0) {
      Logger.error(
        `${what} ${kind} ${entityId} (${reason}). It is kept in customer_sync_note and tried again, and others go on. ` +
          'Compare the versions of plugin and mirror; the mirror logs what is wrong with the document.',
        LOGGER_CTX,
      );
    }
  }
}

function notesOf(changes: Change[]) {
  return changes.flatMap(({ notes }) => notes);
}
