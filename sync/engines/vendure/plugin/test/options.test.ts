import { describe, expect, test } from 'vitest';
import { resolveOptions } from '../src/options';
import { SECRET } from './support/receiver';

const good = { endpoint: 'https://mirror.example/hooks/shop', secret: SECRET };

describe('The options', () => {
  test('have defaults for all but endpoint and secret', () => {
    expect(resolveOptions(good)).toEqual({
      endpoint: good.endpoint,
      secrets: [SECRET],
      batchSize: 100,
      concurrency: 4,
      intervalMs: 500,
      timeoutMs: 10_000,
      sendFrom: 'worker',
    });
  });

  test('may hold several secrets', () => {
    expect(resolveOptions({ ...good, secret: [SECRET, SECRET] }).secrets).toHaveLength(2);
  });

  test('that are wrong are all named in one error', () => {
    const wrong = {
      endpoint: 'mirror',
      secret: 'short',
      batchSize: 101,
      concurrency: 0,
      intervalMs: 1.5,
      timeoutMs: 1,
    };
    const attempt = () => resolveOptions({ ...wrong, sendFrom: 'nowhere' as never });
    for (const name of [...Object.keys(wrong), 'sendFrom']) {
      expect(attempt).toThrow(name);
    }
  });

  test('do not take an empty list of secrets', () => {
    expect(() => resolveOptions({ ...good, secret: [] })).toThrow('at least one secret');
  });
});
