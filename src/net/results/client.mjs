// What actions do with the two packages, once through. Ends with a word that the test looks for.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import * as cache from '@actions/cache'

const here = process.env.GITHUB_WORKSPACE
fs.mkdirSync(path.join(here, 'deps/a'), { recursive: true })
fs.writeFileSync(path.join(here, 'deps/a/file'), 'x'.repeat(300_000))

assert.ok(cache.isFeatureAvailable())
assert.equal(await cache.restoreCache(['deps'], 'deps-1', ['deps-']), undefined)
const saved = await cache.saveCache(['deps'], 'deps-1')
assert.notEqual(saved, -1)
assert.equal(await cache.saveCache(['deps'], 'deps-1'), -1, 'an entry stays as it is')
fs.rmSync(path.join(here, 'deps'), { recursive: true })
assert.equal(await cache.restoreCache(['deps'], 'deps-2', ['deps-']), 'deps-1')
assert.equal(fs.readFileSync(path.join(here, 'deps/a/file'), 'utf8').length, 300_000)
assert.equal(await cache.restoreCache(['deps'], 'deps-2', ['deps-'], { lookupOnly: true }), 'deps-1')

// The package refuses artifacts where the forge is a server of one's own.
if (process.env.GITHUB_SERVER_URL === 'https://github.com') {
  const { DefaultArtifactClient } = await import('@actions/artifact')
  const client = new DefaultArtifactClient()
  const file = path.join(here, 'deps/a/file')
  const uploaded = await client.uploadArtifact('dist', [file], here, { retentionDays: 1, compressionLevel: 0 })
  assert.ok(uploaded.id > 0 && uploaded.size > 0)
  await assert.rejects(client.uploadArtifact('dist', [file], here), /already exists|exists already/)
  const listed = await client.listArtifacts()
  assert.deepEqual(listed.artifacts.map((one) => one.name), ['dist'])
  const { artifact } = await client.getArtifact('dist')
  assert.equal(artifact.id, uploaded.id)
  assert.equal(artifact.digest, `sha256:${uploaded.digest}`)
  const into = path.join(here, 'downloaded')
  const downloaded = await client.downloadArtifact(artifact.id, { path: into, expectedHash: artifact.digest })
  assert.equal(downloaded.digestMismatch, false)
  assert.equal(fs.readFileSync(path.join(into, 'deps/a/file'), 'utf8').length, 300_000)
  await client.deleteArtifact('dist')
  await assert.rejects(client.getArtifact('dist'), /not found/i)
}
console.log('all is well')
