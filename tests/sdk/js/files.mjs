// Files, as E2B's documentation shows them.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { FileNotFoundError, FileType, FilesystemEventType, InvalidArgumentError, NotFoundError, SandboxError } from 'e2b'
import { sharedSandbox, until } from './support.mjs'

const shared = sharedSandbox()
const files = () => shared.sandbox.files

/** A megabyte in which every position differs from its neighbours. */
const PATTERN = Uint8Array.from({ length: 1 << 20 }, (_, i) => (i * 31 + (i >> 8)) & 0xff)

test('text written is text read, and the answer tells the absolute path', async () => {
  const info = await files().write('hello.txt', 'grüß Gott')
  assert.equal(info.path, '/home/user/hello.txt')
  assert.equal(info.name, 'hello.txt')
  assert.equal(info.type, FileType.FILE)
  assert.equal(await files().read('hello.txt'), 'grüß Gott')
  await files().write('hello.txt', 'shorter')
  assert.equal(await files().read('/home/user/hello.txt'), 'shorter')
})

test('bytes, blobs and streams go in and come out unchanged', async () => {
  await files().write('bytes.bin', PATTERN.buffer)
  assert.deepEqual(await files().read('bytes.bin', { format: 'bytes' }), PATTERN)
  await files().write('blob.bin', new Blob([PATTERN]))
  const blob = await files().read('blob.bin', { format: 'blob' })
  assert.deepEqual(new Uint8Array(await blob.arrayBuffer()), PATTERN)
  await files().write('stream.bin', new Blob([PATTERN]).stream())
  const parts = []
  for await (const part of await files().read('stream.bin', { format: 'stream' })) parts.push(part)
  assert.deepEqual(new Uint8Array(Buffer.concat(parts)), PATTERN)
})

test('an empty file stays empty in every format', async () => {
  await files().write('empty', '')
  assert.equal(await files().read('empty'), '')
  assert.equal((await files().read('empty', { format: 'bytes' })).length, 0)
  assert.equal((await (await files().read('empty', { format: 'blob' })).size), 0)
})

test('compressed transfer gives the same bytes', async () => {
  const text = 'again and again '.repeat(10_000)
  await files().write('gzip.txt', text, { gzip: true, useOctetStream: true })
  assert.equal(await files().read('gzip.txt', { gzip: true }), text)
  assert.equal(await files().read('gzip.txt'), text)
})

test('many files are written in one call, in folders that did not exist', async () => {
  const entries = [...Array(10).keys()].map((n) => ({ path: `many/${n}/file.txt`, data: `content ${n}` }))
  const infos = await files().write(entries)
  assert.equal(infos.length, 10)
  for (const [n, info] of infos.entries()) {
    assert.equal(info.path, `/home/user/many/${n}/file.txt`)
    assert.equal(await files().read(info.path), `content ${n}`)
  }
  const owner = await shared.sandbox.commands.run('stat -c %U:%G many many/3 many/3/file.txt')
  assert.equal(owner.stdout, 'user:user\n'.repeat(3))
})

test('metadata of a file is kept with it and replaced by the next write', async () => {
  const info = await files().write('meta.txt', 'x', { metadata: { Origin: 'test', second: 'b' } })
  assert.deepEqual({ ...info.metadata }, { origin: 'test', second: 'b' })
  assert.deepEqual({ ...(await files().getInfo('meta.txt')).metadata }, { origin: 'test', second: 'b' })
  await files().write('meta.txt', 'x', { metadata: { third: 'c' } })
  assert.deepEqual({ ...(await files().getInfo('meta.txt')).metadata }, { third: 'c' })
})

test('getInfo tells type, size, mode, owner and link target', async () => {
  await files().write('info.txt', '12345')
  const info = await files().getInfo('info.txt')
  assert.equal(info.size, 5)
  assert.equal(info.mode, 0o644)
  assert.equal(info.permissions, '-rw-r--r--')
  assert.equal(info.owner, 'user')
  assert.equal(info.group, 'user')
  assert.ok(Math.abs(Date.now() - info.modifiedTime) < 60_000, `${info.modifiedTime}`)
  await shared.sandbox.commands.run('ln -sf /home/user/info.txt info.link')
  assert.equal((await files().getInfo('info.link')).symlinkTarget, '/home/user/info.txt')
  await assert.rejects(() => files().getInfo('missing'), NotFoundError)
})

test('a folder is made once, listed by depth, renamed and removed', async () => {
  assert.equal(await files().makeDir('tree/branch'), true)
  assert.equal(await files().makeDir('tree/branch'), false)
  await files().write('tree/branch/leaf', 'x')
  await files().write('tree/apple', 'x')
  const names = (list) => list.map((entry) => entry.path.replace('/home/user/', ''))
  assert.deepEqual(names(await files().list('tree')), ['tree/apple', 'tree/branch'])
  assert.deepEqual(names(await files().list('tree', { depth: 2 })), ['tree/apple', 'tree/branch', 'tree/branch/leaf'])
  const moved = await files().rename('tree/branch', 'moved')
  assert.equal(moved.path, '/home/user/moved')
  assert.equal(moved.type, FileType.DIR)
  assert.equal(await files().exists('tree/branch'), false)
  assert.equal(await files().exists('moved/leaf'), true)
  await files().remove('moved')
  assert.equal(await files().exists('moved'), false)
  await assert.rejects(() => files().list('moved'), NotFoundError)
})

test('a missing file is a not-found error and a folder cannot be read', async () => {
  await assert.rejects(() => files().read('missing.txt'), (error) => {
    assert.ok(error instanceof FileNotFoundError || error instanceof NotFoundError)
    assert.match(error.message, /does not exist/)
    return true
  })
  await assert.rejects(() => files().read('/tmp'), (error) => {
    assert.ok(error instanceof InvalidArgumentError || error instanceof SandboxError)
    return true
  })
  await assert.rejects(() => files().rename('missing.txt', 'there.txt'), NotFoundError)
})

test('a file of the kernel, whose size is said to be zero, is read to its end', async () => {
  assert.match(await files().read('/proc/sys/kernel/random/boot_id'), /^[0-9a-f-]{36}\n$/)
})

test('writing as another user gives that user the file', async () => {
  const info = await files().write('/root/owned.txt', 'x', { user: 'root' })
  assert.equal(info.path, '/root/owned.txt')
  const owner = await shared.sandbox.commands.run('stat -c %U /root/owned.txt', { user: 'root' })
  assert.equal(owner.stdout, 'root\n')
})

test('watching a folder tells of a new file in exactly three events, creation first', async () => {
  await files().makeDir('watched')
  const events = []
  const handle = await files().watchDir('watched', (event) => { events.push(event) })
  await files().write('watched/new.txt', 'x')
  await until('three events', () => events.length >= 3)
  await files().remove('watched/new.txt')
  await until('the removal', () => events.some((e) => e.type === FilesystemEventType.REMOVE))
  assert.equal(events[0].type, FilesystemEventType.CREATE)
  assert.equal(events[0].name, 'new.txt')
  assert.deepEqual(
    events.slice(0, 3).map((e) => e.type).sort(),
    [FilesystemEventType.CHMOD, FilesystemEventType.CREATE, FilesystemEventType.WRITE].sort(),
  )
  assert.equal(events.length, 4, JSON.stringify(events))
  await handle.stop()
})

test('watching recursively tells of files in folders made later, with their entry when asked', async () => {
  await files().makeDir('deep')
  const events = []
  const handle = await files().watchDir('deep', (event) => { events.push(event) }, { recursive: true, includeEntry: true })
  await files().write('deep/a/b/c.txt', 'x')
  const created = await until('the nested file', () =>
    events.find((e) => e.name === 'a/b/c.txt' && e.type === FilesystemEventType.WRITE))
  assert.equal(created.entry?.path, '/home/user/deep/a/b/c.txt')
  await handle.stop()
})

test('watching what is no folder is refused', async () => {
  await assert.rejects(() => files().watchDir('not-there', () => {}), NotFoundError)
  await files().write('plain.txt', 'x')
  await assert.rejects(() => files().watchDir('plain.txt', () => {}), InvalidArgumentError)
})
