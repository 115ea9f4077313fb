#!/usr/bin/env bash
# Copyright: Contributors to the rhpds.litemaas project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# build.sh FOLDER: etcd, kube-apiserver, kube-controller-manager and kubectl 1.20.2 into FOLDER, from packages of Debian
# bookworm alone. Nothing is installed on the system, and no compiler is needed but the one that is fetched. About four
# minutes on two idle cores, 130 MB downloaded, 1.4 GB of memory, 2.3 GB of files that are removed afterwards.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?the folder to build in}"
folder=$(cd "$1" && pwd)
work=$folder/work
trap 'chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT

# The machine's own Debian mirror with source packages switched on, in lists that nothing else uses.
mkdir -p "$work"/{debs,root,tmp,gopath/src/k8s.io/kubernetes} \
  "$work"/apt/{sources.list.d,state/lists/partial,cache/archives/partial}
: > "$work/apt/status"
: > "$work/apt/sources.list"
if [ -f /etc/apt/sources.list.d/debian.sources ]; then
  sed 's/^Types:.*/Types: deb deb-src/' /etc/apt/sources.list.d/debian.sources > "$work/apt/sources.list.d/debian.sources"
else
  sed -n 's/^deb /deb-src /p; /^deb /p' /etc/apt/sources.list > "$work/apt/sources.list"
fi
cat > "$work/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/apt/sources.list";
Dir::Etc::sourceparts "$work/apt/sources.list.d";
Dir::State "$work/apt/state";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt/cache";
APT::Sandbox::User "";
Acquire::Languages "none";
CONF
export APT_CONFIG=$work/apt.conf
apt-get update -qq
cd "$work/debs"
apt-get download -qq golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev etcd-server \
  kubernetes-client=1.20.*
apt-get source -qq --download-only "kubernetes=$(dpkg-deb -f kubernetes-client_*.deb Version)"
for package in *.deb; do dpkg-deb -x "$package" "$work/root"; done

source=$work/gopath/src/k8s.io/kubernetes
# Debian's own patches touch kubectl only.
tar xzf kubernetes_*.orig.tar.gz -C "$source" --strip-components=1
# The vendored reflect2 1.0.1 crashes under Go 1.18 and newer when a custom resource is written first: Debian's 1.0.2.
reflect2=vendor/github.com/modern-go/reflect2
rm -f "$source/$reflect2"/*.go "$source/$reflect2"/*.s
cp "$work/root/usr/share/gocode/src/github.com/modern-go/reflect2"/*.{go,s} "$source/$reflect2/"
rm -f "$source/$reflect2"/*_test.go
# CronJob is served in batch/v1 too, as it is since 1.21.
patch -s -p1 -d "$source" < "$here/cronjob-batch-v1.patch"

export GOROOT=$work/root/usr/lib/go-1.19 GOPATH=$work/gopath GO111MODULE=off GOPROXY=off GOFLAGS='' CGO_ENABLED=0
export GOCACHE=$work/gocache GOTMPDIR=$work/tmp PATH="$work/root/usr/lib/go-1.19/bin:$PATH"
cd "$source"
# A build whose shell is killed ends with it.
go='setpriv --pdeathsig KILL go'
kubernetes=k8s.io/kubernetes
vendored=$kubernetes/vendor/k8s.io
# The API's description, pkg/generated/openapi, is generated: the source package comes without.
$go build -trimpath -o "$work/openapi-gen" $vendored/kube-openapi/cmd/openapi-gen
described=$(grep -rl --include='*.go' '+k8s:openapi-gen=true' pkg staging/src/k8s.io cmd \
  | grep -v -E '_test.go|/testdata/|/_examples/|zz_generated|code-generator|sample-|kube-openapi/(test|pkg)' \
  | xargs -n1 dirname | sed "s#^staging/src/#vendor/#; s#^#$kubernetes/#" | sort -u | paste -sd,)
"$work/openapi-gen" --logtostderr -O zz_generated.openapi -i "$described" -p $kubernetes/pkg/generated/openapi \
  --go-header-file hack/boilerplate/boilerplate.generatego.txt --report-filename "$work/violations" 2> "$work/log" \
  || { cat "$work/log"; exit 1; }
flags='-s -w'
for package in client-go/pkg/version component-base/version; do
  flags+=" -X $vendored/$package.gitVersion=v1.20.2 -X $vendored/$package.gitMajor=1 -X $vendored/$package.gitMinor=20"
  flags+=" -X $vendored/$package.gitTreeState=clean"
done
for program in kube-apiserver kube-controller-manager; do
  $go build -trimpath -ldflags "$flags" -o "$folder/$program" $kubernetes/cmd/$program
done
cp "$work/root/usr/bin/etcd" "$work/root/usr/bin/kubectl" "$folder/"
