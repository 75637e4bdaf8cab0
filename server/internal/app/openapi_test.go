package app

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"go.yaml.in/yaml/v3"
)

// TestOpenAPIOperations calls every operation of gen/openapi.yaml without a
// credential: it exists, and it is refused unless the document says otherwise.
func TestOpenAPIOperations(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../../gen/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths map[string]map[string]struct {
			Security  *[]map[string][]string
			Responses map[string]any
		}
	}
	backendtest.Must(t, yaml.Unmarshal(content, &document))
	i := startEmbedded(t)
	variable := regexp.MustCompile(`\{\w+\}`)
	for path, operations := range document.Paths {
		for method, operation := range operations {
			body := any(nil)
			if method != "get" && method != "delete" {
				body = "{}"
			}
			status := i.call(t, strings.ToUpper(method), variable.ReplaceAllString(path, "x"), "", body).Status
			if status == 404 || status == 405 {
				t.Errorf("%s %s: the server answers %d", method, path, status)
			}
			public, optional := operation.Security != nil, false
			if public {
				for _, one := range *operation.Security {
					public, optional = false, optional || len(one) == 0
				}
			}
			if refused := status == 401; !optional && refused == public {
				t.Errorf("%s %s: %d without a credential", method, path, status)
			}
			if operation.Responses["default"] == nil {
				t.Errorf("%s %s: no error response", method, path)
			}
		}
	}
}
