/**
 * What a shop sets when it installs CustomerSyncPlugin, its defaults, and one error that lists all that is wrong.
 */
import { Webhook } from 'standardwebhooks';

export interface CustomerSyncOptions {
  /** Where changes are posted: the mirror's `https://…/hooks/{integration}`. */
  endpoint: string;
  /** `whsec_…`. Of several, each signs every request: add the new one, change the mirror, drop the old one. */
  secret: string | string[];
  /** Entities in one request, 1 to 100. */
  batchSize?: number;
  /** Requests in flight at once, 1 to 16. */
  concurrency?: number;
  /** How long to rest when nothing has changed, in milliseconds. */
  intervalMs?: number;
  /** How long to wait for an answer, in milliseconds. */
  timeoutMs?: number;
  /** The process that sends. `server` is for shops that run no worker process. */
  sendFrom?: 'worker' | 'server';
}

export type ResolvedOptions = Readonly<Required<Omit<CustomerSyncOptions, 'secret'>> & { secrets: string[] }>;

/** The injection token of the resolved options. */
export const OPTIONS = Symbol('CustomerSyncOptions');

const DEFAULTS = {
  batchSize: 100,
  concurrency: 4,
  intervalMs: 500,
  timeoutMs: 10_000,
  sendFrom: 'worker',
} as const;

const RANGES = {
  batchSize: [1, 100],
  concurrency: [1, 16],
  intervalMs: [10, 60_000],
  timeoutMs: [100, 120_000],
} as const;

/** Fill in the defaults, or throw one error that names every option that is wrong and what it should be. */
export function resolveOptions({ secret, ...given }: CustomerSyncOptions): ResolvedOptions {
  const options = { ...DEFAULTS, ...given, secrets: [secret].flat() };
  const faults = [
    ...endpointFaults(options.endpoint),
    ...secretFaults(options.secrets),
    ...rangeFaults(options),
    ...(['worker', 'server'].includes(options.sendFrom) ? [] : ["sendFrom must be 'worker' or 'server'"]),
  ];
  if (faults.length > 0) {
    throw new Error(`CustomerSyncPlugin.init: ${faults.join('; ')}.`);
  }
  return options;
}

function endpointFaults(endpoint: string): string[] {
  const protocol = URL.canParse(endpoint) ? new URL(endpoint).protocol : '';
  return ['https:', 'http:'].includes(protocol)
    ? []
    : ["endpoint must be the http(s) address of the mirror's hook"];
}

function secretFaults(secrets: string[]): string[] {
  if (secrets.length === 0) {
    return ['secret must hold at least one secret'];
  }
  return secrets.every(isSecret) ? [] : ['secret must be whsec_ followed by base64, at least 24 bytes of it'];
}

function isSecret(secret: unknown): boolean {
  if (typeof secret !== 'string' || Buffer.from(secret.replace(/^whsec_/, ''), 'base64').length < 24) {
    return false;
  }
  try {
    return Boolean(new Webhook(secret));
  } catch {
    return false;
  }
}

function rangeFaults(options: Omit<ResolvedOptions, 'secrets'>): string[] {
  return Object.entries(RANGES).flatMap(([name, [least, most]]) => {
    const value = options[name as keyof typeof RANGES];
    const fits = Number.isInteger(value) && value >= least && value <= most;
    return fits ? [] : [`${name} must be a whole number from ${least} to ${most}`];
  });
}
