package standalone

import (
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"

	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

// NamespacesPath is where Namespaces answers.
const NamespacesPath = "/api/v1/namespaces/"

// Namespaces answers a GET of one namespace, if it is bound. When an object is
// not found, kubectl asks for its namespace, and takes a server that knows of
// none for one that does not know the kind.
func Namespaces(bindings tenancy.Bindings) http.Handler {
	scheme := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(scheme))
	codecs := serializer.NewCodecFactory(scheme)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		name := strings.TrimPrefix(req.URL.Path, NamespacesPath)
		_, bound := bindings.Project(name)
		switch {
		case req.Method != http.MethodGet:
			err := apierrors.NewMethodNotSupported(corev1.Resource("namespaces"), strings.ToLower(req.Method))
			responsewriters.ErrorNegotiated(err, codecs, corev1.SchemeGroupVersion, w, req)
		case !bound:
			err := apierrors.NewNotFound(corev1.Resource("namespaces"), name)
			responsewriters.ErrorNegotiated(err, codecs, corev1.SchemeGroupVersion, w, req)
		default:
			namespace := &corev1.Namespace{
				ObjectMeta: metav1.ObjectMeta{Name: name},
				Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
			}
			responsewriters.WriteObjectNegotiated(codecs, negotiation.DefaultEndpointRestrictions, corev1.SchemeGroupVersion, w, req, http.StatusOK, namespace, false)
		}
	})
}
