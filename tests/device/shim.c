/* A PKCS#11 module for tests: SoftHSM with faults put in between, for what SoftHSM itself never does.
 *
 * Defined when it is compiled: MODULE, the real module, and CALLS, a file that every call's name is appended to.
 * In the environment:
 *   SHIM_FLAGS  bits to set in CK_TOKEN_INFO's flags
 *   SHIM_LOGIN  what C_Login answers instead of asking the module
 *   SHIM_HANG   a call that never returns: C_Initialize, C_GetSlotList, C_Login, C_DeriveKey or C_Sign
 *   SHIM_LACKS  mechanisms that C_GetMechanismList leaves out: numbers, separated by commas
 *   SHIM_CLEARS bits to clear in CK_TOKEN_INFO's flags
 *   SHIM_TOKEN  how CK_TOKEN_INFO departs from the standard: "clock" has a malformed utcTime, "text" ends strings with NUL,
 *               "lengths" does not know the lengths of PINs
 *   SHIM_MALFORMED  the slot whose C_GetTokenInfo fails with CKR_GENERAL_ERROR: "second" of the slot list
 *   SHIM_SESSIONS   "rw": there are no read-only sessions
 *   SHIM_POINT  "der": C_DeriveKey wants the point in a DER OCTET STRING; "bare": CKA_EC_POINT is not in one
 *   SHIM_REFUSES    an attribute that no template of a key may name
 *   SHIM_ACTIVE a decryption that fails stays active until the module is finalised
 *   SHIM_WRAPS  C_WrapKey wraps what may not be wrapped
 *   SHIM_USER   the only type of user that may log in
 *   SHIM_ALWAYS private keys are made with CKA_ALWAYS_AUTHENTICATE, to which SoftHSM holds itself. "parts": operations on them may be done in
 *               parts, which SoftHSM does not do
 *   SHIM_OPERATION_LOGIN  what C_Login answers for CKU_CONTEXT_SPECIFIC
 *   SHIM_READ_ONLY  "objects": objects are not made, copied or changed by their attributes; "token": nothing is written to the token
 *   SHIM_KMS    Google Cloud KMS: no login, and a template of its own makes keys
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long rv;
typedef struct {
    unsigned char version[2];
    void *calls[68];
} list;
typedef struct {
    char label[32], manufacturer[32], model[16], serial[16];
    unsigned long flags, sessions[4], pin_lengths[2], memory[4];
    unsigned char versions[4];
    char utc_time[16];
} token_info;
typedef struct {
    unsigned long type;
    void *value;
    unsigned long length;
} attribute;
typedef struct {
    unsigned long kdf, shared_length;
    void *shared;
    unsigned long length;
    unsigned char *point;
} ecdh;
typedef struct {
    unsigned long type;
    ecdh *parameter;
    unsigned long length;
} mechanism;

enum { GENERAL_ERROR = 0x5, ATTRIBUTE_VALUE_INVALID = 0x13, ACTION_PROHIBITED = 0x1b, FUNCTION_NOT_SUPPORTED = 0x54,
       MECHANISM_PARAM_INVALID = 0x71, OPERATION_ACTIVE = 0x90, SESSION_READ_ONLY = 0xb5, TEMPLATE_INCONSISTENT = 0xd1,
       TOKEN_WRITE_PROTECTED = 0xe2, USER_TYPE_INVALID = 0x103 };

/* Attributes. */
enum { CLASS = 0x0, TOKEN = 0x1, PRIVATE = 0x2, LABEL = 0x3, SENSITIVE = 0x103, DECRYPT_WITH = 0x105, SIGN_WITH = 0x108, MODULUS_BITS = 0x121,
       PUBLIC_EXPONENT = 0x122, EXTRACTABLE = 0x162, EC_PARAMS = 0x180, EC_POINT = 0x181, ALWAYS_AUTHENTICATE = 0x202 };

/* Places in CK_FUNCTION_LIST. */
enum { INITIALIZE = 0, FINALIZE = 1, SLOT_LIST = 4, TOKEN_INFO = 6, MECHANISM_LIST = 7, OPEN_SESSION = 12, LOGIN = 18, CREATE_OBJECT = 20,
       COPY_OBJECT = 21, DESTROY_OBJECT = 22, GET_ATTRIBUTE = 24, SET_ATTRIBUTE = 25, FIND_INIT = 26, FIND = 27, FIND_FINAL = 28, DECRYPT_INIT = 33, DECRYPT = 34,
       DECRYPT_UPDATE = 35, DECRYPT_FINAL = 36, SIGN = 43, SIGN_UPDATE = 44, SIGN_FINAL = 45, GENERATE = 58, GENERATE_PAIR = 59, WRAP = 60,
       DERIVE = 62 };

static list *real, ours;

static void note(const char *call) {
    FILE *file = fopen(CALLS, "a");
    if (file) {
        fprintf(file, "%s\n", call);
        fclose(file);
    }
}

static void hang(const char *call) {
    const char *hung = getenv("SHIM_HANG");
    while (hung && strcmp(hung, call) == 0)
        pause();
}

static int is(const char *variable, const char *value) {
    const char *set = getenv(variable);
    return set && strcmp(set, value) == 0;
}

#define REAL(place, ...) ((rv(*)())real->calls[place])(__VA_ARGS__)

static rv initialize(void *a) { note("C_Initialize"); hang("C_Initialize"); return REAL(INITIALIZE, a); }
static int active;

static rv finalize(void *a) { active = 0; note("C_Finalize"); return REAL(FINALIZE, a); }
static rv slot_list(unsigned char a, void *b, void *c) { note("C_GetSlotList"); hang("C_GetSlotList"); return REAL(SLOT_LIST, a, b, c); }
static rv find_init(rv a, void *b, rv c) { note("C_FindObjectsInit"); return REAL(FIND_INIT, a, b, c); }
/* CKA_EC_POINT without its tag and length. */
static rv bare_point(rv session, rv object, attribute *wanted) {
    unsigned char in_der[256];
    attribute point = {EC_POINT, in_der, sizeof in_der};
    rv answer = REAL(GET_ATTRIBUTE, session, object, &point, 1UL);
    if (answer != 0)
        return answer;
    wanted->length = point.length - 2;
    if (wanted->value)
        memcpy(wanted->value, in_der + 2, wanted->length);
    return 0;
}

static rv get_attribute(rv a, rv b, attribute *c, rv d) {
    note("C_GetAttributeValue");
    int bare = is("SHIM_POINT", "bare") && d == 1 && c->type == EC_POINT;
    return bare ? bare_point(a, b, c) : REAL(GET_ATTRIBUTE, a, b, c, d);
}

/* What is not done at all. */
static rv not_supported(void) { return FUNCTION_NOT_SUPPORTED; }

static int is_write_protected(void) { return is("SHIM_READ_ONLY", "token"); }

static rv open_session(rv a, rv b, void *c, void *d, void *e) {
    note("C_OpenSession");
    if (is("SHIM_SESSIONS", "rw") && !(b & 2))
        return SESSION_READ_ONLY;
    if (is_write_protected() && (b & 2))
        return TOKEN_WRITE_PROTECTED;
    return REAL(OPEN_SESSION, a, b, c, d, e);
}

static rv derive(rv a, mechanism *b, rv c, void *d, rv e, void *f) {
    note("C_DeriveKey");
    hang("C_DeriveKey");
    if (!is("SHIM_POINT", "der"))
        return REAL(DERIVE, a, b, c, d, e, f);
    /* A bare point has 65 or 97 bytes. SoftHSM takes either, but takes one bare point in 256 for DER. */
    ecdh *parameter = b->parameter;
    if (parameter->length % 32 != 3)
        return MECHANISM_PARAM_INVALID;
    return REAL(DERIVE, a, b, c, d, e, f);
}

static int is_refused(attribute *template, rv count) {
    const char *refused = getenv("SHIM_REFUSES");
    for (rv i = 0; refused && i < count; i++)
        if (template[i].type == strtoul(refused, NULL, 0))
            return 1;
    return 0;
}

static unsigned char yes = 1, no = 0;

/* What Google Cloud KMS makes of its own two attributes. */
static rv kms_generate(rv session, void *mechanism, rv public_count, attribute *private, rv private_count, rv *made) {
    rv number = 0, algorithm = 0x8001e101;
    attribute *label = NULL;
    for (rv i = 0; i < private_count; i++) {
        if (private[i].type == LABEL)
            label = &private[i];
        else if (private[i].type == algorithm && private[i].length == sizeof number)
            memcpy(&number, private[i].value, sizeof number);
        else
            return TEMPLATE_INCONSISTENT;
    }
    if (public_count != 0 || !label)
        return TEMPLATE_INCONSISTENT;
    rv bits = number == 2 || number == 8 ? 2048 : 3072, opens = number >= 8 && number <= 10, rsa = number < 12;
    attribute rsa_public[] = {{TOKEN, &yes, 1}, {PRIVATE, &no, 1}, *label, {MODULUS_BITS, &bits, sizeof bits}, {PUBLIC_EXPONENT, "\1\0\1", 3}};
    attribute ec_public[] = {{TOKEN, &yes, 1}, {PRIVATE, &no, 1}, *label, {EC_PARAMS, "\6\10\52\206\110\316\75\3\1\7", 10}};
    attribute made_private[] = {{TOKEN, &yes, 1}, {PRIVATE, &no, 1}, *label, {SENSITIVE, &yes, 1}, {EXTRACTABLE, &no, 1},
                                {opens ? DECRYPT_WITH : SIGN_WITH, &yes, 1}};
    return REAL(GENERATE_PAIR, session, mechanism, rsa ? rsa_public : ec_public, rsa ? 5UL : 4UL, made_private, 6UL, &made[0], &made[1]);
}

/* In Cloud KMS public keys go with their private ones. */
static rv kms_destroy(rv session, rv object) {
    rv class = 0, public_class = 2, public = 0, found = 0;
    char text[64];
    attribute known[] = {{CLASS, &class, sizeof class}, {LABEL, text, sizeof text}};
    rv answer = REAL(GET_ATTRIBUTE, session, object, known, 2UL);
    if (answer != 0 || class == public_class)
        return answer != 0 ? answer : ACTION_PROHIBITED;
    attribute wanted[] = {{CLASS, &public_class, sizeof class}, {LABEL, text, known[1].length}};
    REAL(FIND_INIT, session, wanted, 2UL);
    REAL(FIND, session, &public, 1UL, &found);
    REAL(FIND_FINAL, session);
    if (found)
        REAL(DESTROY_OBJECT, session, public);
    return REAL(DESTROY_OBJECT, session, object);
}

static rv destroy(rv session, rv object) {
    note("C_DestroyObject");
    if (is_write_protected())
        return TOKEN_WRITE_PROTECTED;
    return getenv("SHIM_KMS") ? kms_destroy(session, object) : REAL(DESTROY_OBJECT, session, object);
}

static rv generate(rv a, void *b, attribute *c, rv d, void *e) {
    note("C_GenerateKey");
    if (getenv("SHIM_KMS"))
        return FUNCTION_NOT_SUPPORTED;
    return is_refused(c, d) ? ATTRIBUTE_VALUE_INVALID : REAL(GENERATE, a, b, c, d, e);
}

static rv generate_pair(rv a, void *b, attribute *c, rv d, attribute *e, rv f, rv *g, rv *h) {
    note("C_GenerateKeyPair");
    if (is_refused(c, d) || is_refused(e, f))
        return ATTRIBUTE_VALUE_INVALID;
    if (getenv("SHIM_KMS")) {
        rv made[2] = {0, 0}, answer = kms_generate(a, b, d, e, f, made);
        *g = made[0];
        *h = made[1];
        return answer;
    }
    attribute private[32];
    if (!getenv("SHIM_ALWAYS") || f >= 32)
        return REAL(GENERATE_PAIR, a, b, c, d, e, f, g, h);
    memcpy(private, e, f * sizeof *e);
    private[f] = (attribute){ALWAYS_AUTHENTICATE, &yes, 1};
    return REAL(GENERATE_PAIR, a, b, c, d, private, f + 1, g, h);
}

static rv wrap(rv a, void *b, rv c, rv d, void *e, rv *f) {
    note("C_WrapKey");
    if (!getenv("SHIM_WRAPS"))
        return REAL(WRAP, a, b, c, d, e, f);
    if (e)
        memset(e, 1, 40);
    *f = 40;
    return 0;
}

static rv get_token_info(rv slot, token_info *info) {
    note("C_GetTokenInfo");
    const char *flags = getenv("SHIM_FLAGS"), *cleared = getenv("SHIM_CLEARS");
    rv slots[2], count = 2;
    if (is("SHIM_MALFORMED", "second") && REAL(SLOT_LIST, 1, slots, &count) == 0 && count == 2 && slots[1] == slot)
        return GENERAL_ERROR;
    rv answer = REAL(TOKEN_INFO, slot, info);
    if (answer != 0)
        return answer;
    info->flags |= flags ? strtoul(flags, NULL, 0) : 0;
    info->flags &= cleared ? ~strtoul(cleared, NULL, 0) : ~0UL;
    if (getenv("SHIM_KMS")) {
        info->flags &= ~0x4UL;
        memcpy(info->manufacturer, "Google                          ", 32);
        memcpy(info->model, "Cloud KMS Token ", 16);
    }
    if (is("SHIM_TOKEN", "clock")) {
        info->flags |= 0x40;
        memcpy(info->utc_time, "\0\0no time at all", 16);
    }
    if (is("SHIM_TOKEN", "text")) {
        memcpy(info->model, "SW   TPM\0\0\0\0\0\0\0\1", 16);
        memcpy(info->serial, "12\033[31m3\0\0\0\0\0\0\0\0", 16);
    }
    if (is("SHIM_TOKEN", "lengths"))
        info->pin_lengths[0] = info->pin_lengths[1] = ~0UL;
    return 0;
}

static rv mechanism_list(rv slot, rv *mechanisms, rv *count) {
    note("C_GetMechanismList");
    rv answer = REAL(MECHANISM_LIST, slot, mechanisms, count), kept = 0;
    const char *lacks = getenv("SHIM_LACKS");
    if (answer != 0 || !mechanisms || !lacks)
        return answer;
    for (rv i = 0; i < *count; i++) {
        char *next = (char *)lacks;
        int lacking = 0;
        do
            lacking |= mechanisms[i] == strtoul(next, &next, 0);
        while (*next++ == ',');
        if (!lacking)
            mechanisms[kept++] = mechanisms[i];
    }
    *count = kept;
    return 0;
}

static rv login(rv session, rv user, void *pin, rv length) {
    const char *answer = getenv("SHIM_LOGIN"), *only = getenv("SHIM_USER"), *refusal = getenv("SHIM_OPERATION_LOGIN");
    if (user == 2) {
        note("C_Login for an operation");
        return refusal ? strtoul(refusal, NULL, 0) : REAL(LOGIN, session, user, pin, length);
    }
    note(pin ? "C_Login" : "C_Login without a PIN");
    hang("C_Login");
    if (only && user != strtoul(only, NULL, 0))
        return USER_TYPE_INVALID;
    user = only ? 1 : user;
    return answer ? strtoul(answer, NULL, 0) : REAL(LOGIN, session, user, pin, length);
}

static rv decrypt_init(rv a, void *b, rv c) {
    return active ? OPERATION_ACTIVE : REAL(DECRYPT_INIT, a, b, c);
}

static rv decrypt(rv a, void *b, rv c, void *d, void *e) {
    rv answer = REAL(DECRYPT, a, b, c, d, e);
    active = answer != 0 && getenv("SHIM_ACTIVE");
    return answer;
}

static rv sign(rv a, void *b, rv c, void *d, void *e) {
    note("C_Sign");
    hang("C_Sign");
    return REAL(SIGN, a, b, c, d, e);
}

/* Operations in parts: they are put together, and done at their end. */
static struct { unsigned char bytes[1024]; rv length; } parts[64];

static rv add_part(rv session, void *part, rv length) {
    if (!is("SHIM_ALWAYS", "parts") || parts[session % 64].length + length > sizeof parts->bytes)
        return FUNCTION_NOT_SUPPORTED;
    memcpy(parts[session % 64].bytes + parts[session % 64].length, part, length);
    parts[session % 64].length += length;
    return 0;
}

static rv put_together(int call, rv session, void *output, rv *size) {
    rv answer = REAL(call, session, parts[session % 64].bytes, parts[session % 64].length, output, size);
    if (output || answer != 0)
        parts[session % 64].length = 0;
    return answer;
}

static rv sign_update(rv session, void *part, rv length) { return add_part(session, part, length); }
static rv sign_final(rv session, void *signature, rv *size) { return put_together(SIGN, session, signature, size); }

static rv decrypt_update(rv session, void *part, rv length, void *output, rv *size) {
    *size = 0;
    return add_part(session, part, output ? length : 0);
}

static rv decrypt_final(rv session, void *output, rv *size) { return put_together(DECRYPT, session, output, size); }

rv C_GetFunctionList(list **out) {
    void *module = dlopen(MODULE, RTLD_NOW);
    rv (*get)(list **) = module ? (rv(*)(list **))dlsym(module, "C_GetFunctionList") : NULL;
    if (!get || get(&real) != 0)
        return 5;
    ours = *real;
    ours.calls[INITIALIZE] = initialize;
    ours.calls[FINALIZE] = finalize;
    ours.calls[SLOT_LIST] = slot_list;
    ours.calls[TOKEN_INFO] = get_token_info;
    ours.calls[MECHANISM_LIST] = mechanism_list;
    ours.calls[OPEN_SESSION] = open_session;
    ours.calls[LOGIN] = login;
    ours.calls[GET_ATTRIBUTE] = get_attribute;
    ours.calls[FIND_INIT] = find_init;
    ours.calls[SIGN] = sign;
    ours.calls[DERIVE] = derive;
    ours.calls[GENERATE] = generate;
    ours.calls[GENERATE_PAIR] = generate_pair;
    ours.calls[WRAP] = wrap;
    ours.calls[DECRYPT_INIT] = decrypt_init;
    ours.calls[DECRYPT] = decrypt;
    ours.calls[DESTROY_OBJECT] = destroy;
    ours.calls[SIGN_UPDATE] = sign_update;
    ours.calls[SIGN_FINAL] = sign_final;
    ours.calls[DECRYPT_UPDATE] = decrypt_update;
    ours.calls[DECRYPT_FINAL] = decrypt_final;
    if (getenv("SHIM_READ_ONLY"))
        ours.calls[CREATE_OBJECT] = ours.calls[COPY_OBJECT] = ours.calls[SET_ATTRIBUTE] = not_supported;
    *out = &ours;
    return 0;
}
