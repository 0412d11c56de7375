// Validates custom resources by the npm packages that are made from their definitions.
// Run in the folder of tests/charts/tools.models(): reads a list of objects as JSON, prints a line for each fault.
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const PACKAGES = {
  'keda.sh/v1alpha1': '@kubernetes-models/keda',
  'monitoring.coreos.com/v1': '@kubernetes-models/prometheus-operator',
  'gateway.networking.k8s.io/v1': '@kubernetes-models/gateway-api',
}
for (const found of JSON.parse(readFileSync(0, 'utf8'))) {
  const name = `${found.kind}/${found.metadata.name}`
  const path = `${process.cwd()}/node_modules/${PACKAGES[found.apiVersion]}/${found.apiVersion}/index.js`
  const Model = (await import(pathToFileURL(path)))[found.kind]
  try {
    new Model(found).validate()
    console.log(`ok ${name}`)
  } catch (error) {
    console.log(`fault ${name}: ${error.message}`)
  }
}
