"""Accounts: registration, profile, addresses, groups, e-mail changes, deletion, and coming back."""

from __future__ import annotations

from typing import Any

from tests.e2e.graphql import Session
from tests.e2e.people import ASHAN, DILINI, KUMARI, NIMAL, PRIYA, RUWAN, SANJAYA, Person
from tests.e2e.story.shopping import guest_order
from tests.e2e.world import PASSWORD, Action, World

NEW_EMAIL = "nimal@kandy.example.com"


def nimal_registers(world: World) -> None:
    visitor = world.visitors["nimal"] = world.visitor()
    visitor.do(
        "registerCustomerAccount(input: RegisterCustomerInput!)",
        on="Success",
        fields="success",
        input=NIMAL.as_customer() | {"password": PASSWORD},
    )
    world.customers["nimal"] = world.customer_id(NIMAL.email)


def nimal_verifies_his_address(world: World) -> None:
    world.verify(world.visitors["nimal"], NIMAL)


def nimal_corrects_his_profile(world: World) -> None:
    _update_profile(world.visitors["nimal"], title="Mr", phoneNumber="077 765 4321")


def nimal_saves_his_profile_unchanged(world: World) -> None:
    _update_profile(world.visitors["nimal"], title="Mr")


def _update_profile(visitor: Session, **values: Any) -> None:
    visitor.do("updateCustomer(input: UpdateCustomerInput!)", input=values)


def nimal_adds_his_home(world: World) -> None:
    world.customers["nimal's home"] = _add_address(
        world.visitors["nimal"], NIMAL.address(defaultShippingAddress=True, defaultBillingAddress=True)
    )


def nimal_adds_his_office_as_the_new_default(world: World) -> None:
    """The default flag is taken from the home address, for which no event fires."""
    office = NIMAL.address(company="Perera & Sons", streetLine1="1 King Street", defaultShippingAddress=True)
    world.customers["nimal's office"] = _add_address(world.visitors["nimal"], office)


def _add_address(visitor: Session, address: dict[str, Any]) -> str:
    return str(visitor.do("createCustomerAddress(input: CreateAddressInput!)", input=address)["id"])


def nimal_corrects_his_office(world: World) -> None:
    world.visitors["nimal"].do(
        "updateCustomerAddress(input: UpdateAddressInput!)",
        input={
            "id": world.customers["nimal's office"],
            "streetLine2": "2nd floor",
            "company": "Perera and Sons",
        },
    )


def nimal_deletes_his_home(world: World) -> None:
    world.visitors["nimal"].do("deleteCustomerAddress(id: ID!)", fields="success", id=world.customers["nimal's home"])


def kumari_registers_and_verifies(world: World) -> None:
    world.visitors["kumari"] = world.register(KUMARI)
    world.customers["kumari"] = world.customer_id(KUMARI.email)


def sanjaya_registers_and_never_verifies(world: World) -> None:
    world.visitor().do(
        "registerCustomerAccount(input: RegisterCustomerInput!)",
        on="Success",
        fields="success",
        input=SANJAYA.as_customer() | {"password": PASSWORD},
    )


def an_admin_creates_ruwan(world: World) -> None:
    created = world.admin.do(
        "createCustomer(input: CreateCustomerInput!, password: String)",
        on="Customer",
        input=RUWAN.as_customer(),
        password=PASSWORD,
    )
    world.customers["ruwan"] = created["id"]


def an_admin_creates_ashan_without_an_account(world: World) -> None:
    created = world.admin.do("createCustomer(input: CreateCustomerInput!)", on="Customer", input=ASHAN.as_customer())
    world.customers["ashan"] = created["id"]


def an_admin_corrects_ruwan(world: World) -> None:
    _update(world, "ruwan", lastName="Fernando-Silva", title="Dr")


def an_admin_verifies_kumaris_phone(world: World) -> None:
    _update(world, "kumari", customFields={"phoneVerified": True})


def kumari_consents_to_marketing(world: World) -> None:
    _update(world, "kumari", customFields={"marketingConsent": True})


def kumari_withdraws_her_consent(world: World) -> None:
    _update(world, "kumari", customFields={"marketingConsent": False})


def _update(world: World, name: str, **values: Any) -> None:
    world.admin.do(
        "updateCustomer(input: UpdateCustomerInput!)",
        on="Customer",
        input={"id": world.customers[name]} | values,
    )


def an_admin_adds_an_address_for_ruwan(world: World) -> None:
    created = world.admin.do(
        "createCustomerAddress(customerId: ID!, input: CreateAddressInput!)",
        customerId=world.customers["ruwan"],
        input=RUWAN.address(defaultBillingAddress=True),
    )
    world.customers["ruwan's address"] = created["id"]


def an_admin_corrects_ruwans_address(world: World) -> None:
    world.admin.do(
        "updateCustomerAddress(input: UpdateAddressInput!)",
        input={"id": world.customers["ruwan's address"], "city": "Chilaw", "defaultShippingAddress": True},
    )


def an_admin_makes_a_group_of_wholesalers(world: World) -> None:
    created = world.admin.do(
        "createCustomerGroup(input: CreateCustomerGroupInput!)",
        input={"name": "Wholesale", "customerIds": [world.customers["nimal"]]},
    )
    world.customers["group"] = created["id"]


def ruwan_and_kumari_join_the_group(world: World) -> None:
    _regroup(world, "addCustomersToGroup", "ruwan", "kumari")


def nimal_leaves_the_group(world: World) -> None:
    _regroup(world, "removeCustomersFromGroup", "nimal")


def the_group_is_renamed(world: World) -> None:
    world.admin.do(
        "updateCustomerGroup(input: UpdateCustomerGroupInput!)",
        input={"id": world.customers["group"], "name": "Clubs and schools"},
    )


def _regroup(world: World, change: str, *names: str) -> None:
    world.admin.do(
        f"{change}(customerGroupId: ID!, customerIds: [ID!]!)",
        customerGroupId=world.customers["group"],
        customerIds=[world.customers[name] for name in names],
    )


def nimal_asks_for_a_new_email_address(world: World) -> None:
    world.visitors["nimal"].do(
        "requestUpdateCustomerEmailAddress(password: String!, newEmailAddress: String!)",
        on="Success",
        fields="success",
        password=PASSWORD,
        newEmailAddress=NEW_EMAIL,
    )


def nimal_confirms_his_new_email_address(world: World) -> None:
    """Fires nothing but an IdentifierChangeEvent."""
    world.visitors["nimal"].do(
        "updateCustomerEmailAddress(token: String!)",
        on="Success",
        fields="success",
        token=world.token("identifierChangeToken", NIMAL.email),
    )


def dilini_orders_as_a_guest_and_is_deleted(world: World) -> None:
    guest_order(world, "dilini's first", DILINI, {"PROG-1": 1})
    _delete(world, DILINI)


def dilini_comes_back_with_the_same_email_address(world: World) -> None:
    world.visitors["dilini"] = world.register(DILINI)
    world.customers["dilini"] = world.customer_id(DILINI.email)


def priya_orders_as_a_guest(world: World) -> None:
    guest_order(world, "priya's first", PRIYA, {"KIT-JAF-G-M": 1})


def priya_registers_with_her_guest_address(world: World) -> None:
    """The guest becomes the account: same id, now with a user."""
    world.visitors["priya"] = world.register(PRIYA)


def ruwan_is_deleted(world: World) -> None:
    _delete(world, RUWAN)


def a_second_ruwan_registers(world: World) -> None:
    world.register(RUWAN)


def sanjaya_is_deleted(world: World) -> None:
    _delete(world, SANJAYA)


def _delete(world: World, person: Person) -> None:
    world.admin.do("deleteCustomer(id: ID!)", fields="result", id=world.customer_id(person.email))


BEFORE_THE_FIRST_ORDER: tuple[Action, ...] = (
    nimal_registers,
    nimal_verifies_his_address,
    nimal_corrects_his_profile,
    nimal_saves_his_profile_unchanged,
    nimal_adds_his_home,
    nimal_adds_his_office_as_the_new_default,
    nimal_corrects_his_office,
    nimal_deletes_his_home,
    kumari_registers_and_verifies,
    sanjaya_registers_and_never_verifies,
    an_admin_creates_ruwan,
    an_admin_creates_ashan_without_an_account,
    an_admin_corrects_ruwan,
    an_admin_verifies_kumaris_phone,
    kumari_consents_to_marketing,
    an_admin_adds_an_address_for_ruwan,
    an_admin_corrects_ruwans_address,
    an_admin_makes_a_group_of_wholesalers,
    ruwan_and_kumari_join_the_group,
    nimal_leaves_the_group,
    the_group_is_renamed,
)

AFTER_THE_ORDERS: tuple[Action, ...] = (
    nimal_asks_for_a_new_email_address,
    nimal_confirms_his_new_email_address,
    kumari_withdraws_her_consent,
    dilini_orders_as_a_guest_and_is_deleted,
    dilini_comes_back_with_the_same_email_address,
    priya_orders_as_a_guest,
    priya_registers_with_her_guest_address,
    ruwan_is_deleted,
    a_second_ruwan_registers,
    sanjaya_is_deleted,
)
