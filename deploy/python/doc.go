// Package python holds the Python module that ships in the wheel of obo-publisher; this is for its tests only.
package python
