// Package apps holds Databricks Apps that use the relay, to copy from: a Streamlit UI, a FastAPI middleware, a broker. Its tests
// hold their files to what the platform reads, and make e2e runs them.
package apps
