package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/server/gateway"
)

// reference reads the committed document.
func reference(t *testing.T) *openapi3.T {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "openapi.json"))
	require.NoError(t, err)
	doc, err := openapi3.NewLoader().LoadFromData(data)
	require.NoError(t, err)
	return doc
}

func TestTheReferenceIsValidOpenAPI(t *testing.T) {
	require.NoError(t, reference(t).Validate(context.Background()))
}

func TestTheReferenceHasEveryRPCWithItsRealStatusAndTheErrorBody(t *testing.T) {
	doc := reference(t)
	require.NotEmpty(t, methods())
	for _, method := range methods() {
		operation, err := find(doc, method)
		require.NoError(t, err)
		require.Equal(t, string(method.Name()), operation.OperationID)
		require.NotNil(t, operation.Responses.Status(gateway.SuccessStatus(fullMethod(method))), method.FullName())
		require.Equal(t, "#/components/responses/Error", operation.Responses.Default().Ref, method.FullName())
	}
}

func TestAStreamIsLinesOrServerSentEvents(t *testing.T) {
	content := reference(t).Paths.Value("/api/executions/{id}/logs/stream").Get.Responses.Status(200).Value.Content
	require.Contains(t, content, ndjson)
	require.Contains(t, content, eventStream)
}

func TestAFieldWithPresenceIsNullableAndNeverLeftOutOfAnAnswer(t *testing.T) {
	execution := reference(t).Components.Schemas["Execution"].Value
	size := execution.Properties["size_bytes"].Value
	require.True(t, size.Nullable)
	require.True(t, size.Type.Is(openapi3.TypeString))
	require.Equal(t, "int64", size.Format)
	require.Contains(t, execution.Required, "size_bytes")
	require.False(t, execution.Properties["attempt"].Value.Nullable)
	require.True(t, execution.Properties["job"].Value.Nullable)
}

func TestAReferenceKeepsTheDescriptionBesideIt(t *testing.T) {
	wrapped := wrapReferences(map[string]any{"$ref": "#/definitions/A", "description": "Why."})
	require.Equal(t, map[string]any{
		"allOf":       []any{map[string]any{"$ref": "#/definitions/A"}},
		"description": "Why.",
	}, wrapped)
}

func TestASwaggerDocumentThatIsNotJSONIsRefused(t *testing.T) {
	_, err := build([]byte("{"))
	require.ErrorContains(t, err, "parse the Swagger document")
}
