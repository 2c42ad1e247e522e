// Package apps holds two Databricks Apps that use the relay, to copy from: a Streamlit UI and a FastAPI middleware. Its tests
// hold their files to what the platform reads, and make e2e runs them.
package apps
