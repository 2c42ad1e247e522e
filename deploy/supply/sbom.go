package supply

import (
	"bytes"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

const project = "github.com/obo-relay/obo-relay"

// SBOM is a bill of materials in CycloneDX 1.6, as JSON: of the modules, and of Go's standard library. The same modules and
// the same Go give the same bytes: it holds neither a time nor a number of its own.
func SBOM(command, version string, modules []Module) ([]byte, error) {
	std, err := standardLibrary()
	if err != nil {
		return nil, err
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &cdx.Component{
		BOMRef: command, Type: cdx.ComponentTypeApplication, Name: command, Version: version, PackageURL: purl(project, version),
		Licenses: choice([]string{"Apache-2.0"}),
	}}
	components, refs := []cdx.Component{}, []string{}
	for _, m := range append(modules[:len(modules):len(modules)], std) {
		url := purl(m.Path, m.Version)
		components, refs = append(components, cdx.Component{
			BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: url, Scope: cdx.ScopeRequired, Licenses: choice(m.Licenses),
		}), append(refs, url)
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: command, Dependencies: &refs}}
	var out bytes.Buffer
	encoder := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON)
	err = encoder.SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
	return out.Bytes(), err
}

// purl is a package URL of type golang, whose names are in lower case.
func purl(module, version string) string {
	return "pkg:golang/" + strings.ToLower(module) + "@" + strings.ReplaceAll(version, "+", "%2B")
}

func choice(ids []string) *cdx.Licenses {
	var all cdx.Licenses
	for _, id := range ids {
		all = append(all, cdx.LicenseChoice{License: &cdx.License{ID: id}})
	}
	return &all
}
