# shellcheck shell=bash
# Keys, certificates and kubeconfigs of one run, all in $STATE/pki. They end with it.

make_ca() {
    mkdir -p "$STATE/pki"
    cat >"$STATE/pki/openssl.cnf" <<'CNF'
[req]
distinguished_name = subject
[subject]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, digitalSignature, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth, serverAuth
CNF
    new_certificate ca /CN=portcullis-e2e -extensions ca
    openssl ecparam -name prime256v1 -genkey -noout -out "$STATE/pki/service-account.key"
}

# issue FILE SUBJECT [SUBJECT_ALT_NAME]
issue() {
    new_certificate "$1" "$2" -CA "$STATE/pki/ca.crt" -CAkey "$STATE/pki/ca.key" -extensions leaf \
        ${3:+-addext "subjectAltName=$3"}
}

new_certificate() {
    local file=$STATE/pki/$1 subject=$2
    shift 2
    (umask 077 && openssl req -x509 -new -config "$STATE/pki/openssl.cnf" -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
        -nodes -days 30 -subj "$subject" -keyout "$file.key" -out "$file.crt" "$@" 2>"$file.log") ||
        die "certificate $subject must be issued: $(<"$file.log")"
    rm "$file.log"
}

# new_user FILE NAME [GROUP...]: a client certificate and the kubeconfig around it; prints the kubeconfig's path.
new_user() {
    local file=$1 name=$2 subject=''
    shift 2
    [ $# = 0 ] || subject=$(printf '/O=%s' "$@")
    issue "$file" "$subject/CN=$name"
    (umask 077 && write_kubeconfig "$file" "$name" >"$STATE/$file.kubeconfig")
    echo "$STATE/$file.kubeconfig"
}

write_kubeconfig() {
    cat <<KUBECONFIG
apiVersion: v1
kind: Config
current-context: portcullis-e2e
contexts: [{name: portcullis-e2e, context: {cluster: portcullis-e2e, user: "$2"}}]
clusters:
- name: portcullis-e2e
  cluster: {server: "$SERVER", certificate-authority-data: $(base64 -w0 "$STATE/pki/ca.crt")}
users:
- name: "$2"
  user: {client-certificate-data: $(base64 -w0 "$STATE/pki/$1.crt"), client-key-data: $(base64 -w0 "$STATE/pki/$1.key")}
KUBECONFIG
}
