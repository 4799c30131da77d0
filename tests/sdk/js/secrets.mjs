// Secrets, as E2B's documentation shows them: a value goes in and never comes out.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { AuthenticationError, Sandbox, Secret, SecretNotFoundError } from 'e2b'

const NAME = `js-${process.env.COURIER_TEST_MODE}`
const VALUE = 'js-secret-value-that-stays-outside'

test('a secret is stored, told about, given a new value and destroyed, twice', async () => {
  const made = await Secret.create(`${NAME}-life`, VALUE, { metadata: { owner: 'tests' } })
  try {
    assert.equal(made.name, `${NAME}-life`)
    assert.equal(made.version, 1)
    assert.deepEqual({ ...made.metadata }, { owner: 'tests' })
    assert.ok(made.createdAt instanceof Date && !Number.isNaN(made.createdAt.getTime()))
    const byName = await Secret.getInfo(made.name)
    const byId = await Secret.getInfo(made.secretId)
    assert.deepEqual([byName.secretId, byId.name], [made.secretId, made.name])
    assert.ok(!JSON.stringify([made, byName, byId]).includes(VALUE))
    const updated = await Secret.update(made.name, `${VALUE}-2`)
    assert.equal(updated.version, 2)
    assert.deepEqual({ ...updated.metadata }, { owner: 'tests' })
    assert.ok(updated.updatedAt >= made.updatedAt)
    const replaced = await Secret.update(made.secretId, `${VALUE}-3`, { metadata: { other: 'x' } })
    assert.deepEqual([replaced.version, { ...replaced.metadata }], [3, { other: 'x' }])
    assert.equal(await Secret.exists(made.name), true)
  } finally {
    assert.equal(await Secret.destroy(made.name), true)
  }
  assert.equal(await Secret.exists(made.name), false)
  assert.equal(await Secret.destroy(made.name), false)
  await assert.rejects(() => Secret.getInfo(made.name), SecretNotFoundError)
  await assert.rejects(() => Secret.update(made.name, VALUE), SecretNotFoundError)
})

test('the list has every secret once, page by page', async () => {
  const names = ['a', 'b', 'c'].map((letter) => `${NAME}-page-${letter}`)
  try {
    for (const name of names) await Secret.create(name, VALUE)
    const pages = Secret.list({ limit: 1 })
    const seen = []
    while (pages.hasNext) {
      const page = await pages.nextItems()
      assert.ok(page.length <= 1, JSON.stringify(page))
      seen.push(...page)
    }
    const ours = seen.map((secret) => secret.name).filter((name) => names.includes(name))
    assert.deepEqual(ours.sort(), names)
    assert.ok(!JSON.stringify(seen).includes(VALUE))
  } finally {
    for (const name of names) await Secret.destroy(name)
  }
})

test('a second secret of a name, a name that is none and a wrong key are refused', async () => {
  await Secret.create(`${NAME}-twice`, VALUE)
  try {
    await assert.rejects(() => Secret.create(`${NAME}-twice`, VALUE), /409/)
    await assert.rejects(() => Secret.create('no name', VALUE), /400/)
    const wrong = { apiKey: `e2b_${'0'.repeat(40)}` }
    await assert.rejects(() => Secret.getInfo(`${NAME}-twice`, wrong), AuthenticationError)
  } finally {
    await Secret.destroy(`${NAME}-twice`)
  }
})

test('a secret as an environment variable is a token inside, not the value', async () => {
  await Secret.create(`${NAME}-env`, VALUE)
  let sandbox
  try {
    sandbox = await Sandbox.create({ timeoutMs: 60_000, envs: { KEY: Secret.fill(`${NAME}-env`) } })
    const { stdout } = await sandbox.commands.run('echo "$KEY"; env')
    assert.match(stdout, /^cct_[A-Za-z0-9_-]{43}\n/)
    assert.ok(!stdout.includes(VALUE))
  } finally {
    await sandbox?.kill()
    await Secret.destroy(`${NAME}-env`)
  }
})
